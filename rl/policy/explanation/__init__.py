"""Why a policy expects what it expects of an item: what explanations consist of, and what any policy's are made by."""
