"""Why a decision showed what it showed, by the version that made it."""
