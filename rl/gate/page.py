"""A report as one page of HTML that needs nothing else: the verdict, the charts, and what they were made of."""

from collections.abc import Sequence
from html import escape

from rl.gate.charts import Curve, Span, bars, curves, spans
from rl.gate.comparison import WEIGHTS, Bound, Comparison, PolicyValue, Range
from rl.gate.report import Report

_CHALLENGER, _CHAMPION, _BOUND = "#0b57d0", "#8a5a00", "#1a7f4b"
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 1em;color:#1f1f1f;background:#fff}
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}
.verdict{padding:.8em 1em;border-left:6px solid;font-size:1.1em;background:#f4f6f8}
.yes{border-color:#1a7f4b}.no{border-color:#b3261e}.forced{border-color:#b3261e;background:#fde7e5;font-weight:600}
figure{margin:1.5em 0}figcaption{font-weight:600}svg{width:100%;height:auto;font:12px system-ui,sans-serif}
.grid{stroke:#e3e3e3}.zero{stroke:#555;stroke-dasharray:3 3}.label{fill:#555}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25em .6em;border-bottom:1px solid #e3e3e3}
td:first-child,td:nth-child(2):last-child{overflow-wrap:anywhere}td:first-child{min-width:6em}td.number{text-align:right;font-variant-numeric:tabular-nums}
pre{overflow:auto;background:#f4f6f8;padding:1em}
"""


def render(report: Report) -> str:
    """Return the page."""
    verdict, comparison = report.verdict, report.comparison
    title = (
        f"{report.challenger.name} {report.challenger.digest} beside {report.champion.name} {report.champion.digest}"
    )
    parts = [f"<h1>{escape(title)}</h1>"]
    if report.forced is not None:
        parts.append(f'<p class="verdict forced">Promoted by force: {escape(report.forced)}</p>')
    kind = "yes" if verdict.promote else "no"
    parts.append(f'<p class="verdict {kind}">{escape(verdict.sentence)}</p>')
    if verdict.against:
        parts.append(f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in verdict.against)}</ul>")
    if comparison is not None:
        parts += [_difference(comparison), _rewards(comparison), _spans(comparison), _weights(comparison)]
        parts += [
            "<h2>What each would earn</h2>",
            _values(comparison),
            f"<p>{escape(_anything(comparison.anything))}</p>",
        ]
        parts += ["<h2>Guarded segments and guardrails</h2>", _bounds([comparison.all, *comparison.guarded])]
    parts += ["<h2>Conformance</h2>", _conformance(report), "<h2>What it was made of</h2>", _data(report)]
    spec = escape(report.spec.model_dump_json(indent=1))
    parts.append(f"<details><summary>The whole specification</summary><pre>{spec}</pre></details>")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _difference(comparison: Comparison) -> str:
    looks, needed = comparison.looks, comparison.all.needed
    n = [float(look.decisions) for look in looks]
    return curves(
        "Challenger minus champion, reward of a decision, over all decisions so far",
        [
            Curve("difference", _CHALLENGER, n, [look.difference for look in looks]),
            Curve("lower bound at all looks", _BOUND, n, _shown([look.lower for look in looks], looks[-1].difference)),
            Curve("margin", "#555", n, [needed] * len(n), dashed=True),
        ],
        "decisions",
    )


def _shown(lower: Sequence[float | None], last: float) -> list[float | None]:
    """Return bounds without the first ones, which are so far below that nothing else would be seen."""
    final = lower[-1] if lower[-1] is not None else 0.0
    least = min(final, 0.0) - 4 * max(abs(last - final), 1e-12)
    return [bound if bound is not None and bound >= least else None for bound in lower]


def _rewards(comparison: Comparison) -> str:
    looks = comparison.looks
    n = [float(look.decisions) for look in looks]
    return curves(
        "Reward of a decision between looks",
        [
            Curve("challenger, estimated", _CHALLENGER, n, [look.challenger for look in looks]),
            Curve("as logged", _CHAMPION, n, [look.champion for look in looks]),
        ],
        "decisions",
    )


def _spans(comparison: Comparison) -> str:
    rows = [comparison.all, *comparison.guarded]
    return spans(
        "Difference with its 95 % interval; diamond: the bound that decides; bar: what it must be above",
        [
            Span(
                bound.name,
                bound.difference.value,
                bound.difference.low,
                bound.difference.high,
                bound.lower if _is_near(bound) else None,
                bound.needed,
                bound.holds,
            )
            for bound in rows
            if bound.difference is not None
        ],
    )


def _is_near(bound: Bound) -> bool:
    """Return whether a bound can be drawn without making all else too small to see."""
    if bound.lower is None or bound.difference is None:
        return False
    return bound.difference.value - bound.lower < 8 * (bound.difference.high - bound.difference.low) + 1e-12


def _weights(comparison: Comparison) -> str:
    names = ["0", *(f"≤ {edge:g}" for edge in WEIGHTS[1:]), f"> {WEIGHTS[-1]:g}"]
    shares = [
        [count / comparison.decisions for count in policy.bins]
        for policy in (comparison.challenger, comparison.champion)
    ]
    title = "Importance weights: share of the decisions, challenger and champion"
    return bars(title, names, shares, (_CHALLENGER, _CHAMPION))


def _values(comparison: Comparison) -> str:
    rows = []
    for name, policy in (("challenger", comparison.challenger), ("champion", comparison.champion)):
        rows.append((name, _said(policy.value), policy.estimator, f"{policy.effective_size:,.0f}", _tail(policy)))
        if policy.abstains:
            rows.append(("", f"the log cannot tell: {policy.abstains}", "", "", ""))
    header = ("", "reward of a decision", "estimator", "effective decisions", "weights: median, 99 %, largest")
    return _table(header, rows)


def _tail(policy: PolicyValue) -> str:
    return f"{policy.weights['0.5']:.3g}, {policy.weights['0.99']:.3g}, {policy.largest_weight:.3g}"


def _anything(found: Range | None) -> str:
    if found is None:
        return "Whether any policy could beat the log, it cannot tell."
    answer = "There is something to learn" if found.low > 0 else "Nothing is certain to be learned"
    return f"{answer}: acting by the reward model would earn {_said(found)} a decision more than was earned."


def _said(found: Range | None) -> str:
    return "-" if found is None else f"{found.value:.5g} ({found.low:.5g} to {found.high:.5g})"


def _bounds(found: Sequence[Bound]) -> str:
    rows = [
        (
            one.name,
            one.kind,
            f"{one.decisions:,}",
            f"{one.champion:.5g}",
            _said(one.difference),
            "-" if one.lower is None else f"{one.lower:.5g}",
            f"{one.needed:.4g}",
            "yes" if one.holds else "no",
        )
        for one in found
    ]
    return _table(("", "kind", "decisions", "as logged", "difference", "bound", "needed", "holds"), rows)


def _conformance(report: Report) -> str:
    found = report.conformance
    if found is None:
        return "<p>Not checked: the challenger was evaluated, and not to be promoted.</p>"
    rows = [(name, "kept" if fault is None else fault) for name, fault in found.promises.items()]
    one, other = (f"{1e3 * seconds:.3f} ms" for seconds in found.p99_s)
    rows.append(("p99 of a decision", f"{one}, the champion's {other}: {found.slowdown:.2f} of it"))
    return _table(("promise", ""), rows)


def _data(report: Report) -> str:
    data, level = report.data, report.level
    rows = [
        ("decisions", f"{data.decisions:,}, at log positions {data.first} to {data.last}"),
        ("their hash", data.sha256),
        ("read up to", f"decision {data.decision_seq}, feedback {data.feedback_seq}"),
        ("made", f"after {data.since or 'the beginning'}, until {data.until}"),
        *((f"left out: {why}", f"{count:,}") for why, count in data.left_out.items()),
        ("level", f"{level.level:.4g}: family {level.family} tried on this champion, of {level.members}"),
        ("champion, challenger in the registry", f"{report.champion.version}, {report.challenger.version}"),
        ("made at", str(report.created)),
        ("hash of the evidence", report.evidence_sha256),
    ]
    if (comparison := report.comparison) is not None:
        rows += [
            ("made by the champion itself", f"{comparison.own:.1%}"),
            ("slots of a slate", f"{comparison.slots[0]} to {comparison.slots[1]}"),
            ("rewards are taken to be in", f"{comparison.rewards[0]:g} to {comparison.rewards[1]:g}"),
            *(("the bounds hold if", f"{one}, as the log has it") for one in comparison.assumed),
            ("weights are taken to be at most", f"{comparison.most[0]:.4g}, the champion's {comparison.most[1]:.4g}"),
            ("mean weight, 1 where propensities are right", _said(comparison.calibration)),
        ]
    return _table(("", ""), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
