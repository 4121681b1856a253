"""`python -m serve.metrics`: the table of `serve/METRICS.md`, of all metrics by name."""

from serve.metrics.definitions import METRICS


def table() -> str:
    """Return all metrics as a table of Markdown."""
    rows = [
        f"| `{one.exported}` | {one.kind} | {', '.join(one.labels) or '-'} | {one.says.removesuffix('.')} |"
        for one in METRICS
    ]
    return "\n".join(["| metric | kind | labels | what it says |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())
