"""The picture of the chain in README.md, drawn as SVG. Reads well on a light and on a dark page."""

_WIDE, _HIGH, _GAP = 124, 58, 24
_STAGES = [
    ("plan", "what it will cost"), ("quantize", "NVFP4, sealed"), ("verify", "byte by byte"),
    ("evaluate", "KL, tasks"), ("benchmark", "TTFT, tokens/s"), ("card", "from documents"),
    ("sign", "who answers for it"), ("publish", "and read back"),
]  # fmt: skip
_STRANGER = [
    ("verify", "bytes, signature"),
    ("reproduce", "make it again"),
    ("audit", "claim by claim"),
    ("compare", "which is closer"),
]


def _box(x: float, y: float, name: str, note: str, fill: str) -> str:
    middle = x + _WIDE / 2
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="8" fill="{fill}"/>'
        f'<text x="{middle}" y="{y + 25}" class="name">{name}</text>'
        f'<text x="{middle}" y="{y + 43}" class="note">{note}</text>\n'
    )


def _arrow(x: float, y: float, length: float) -> str:
    return f'<path d="M{x} {y}h{length - 6}m0 -4l6 4l-6 4z" class="arrow"/>\n'


def chain() -> str:
    """SVG of the publisher's stages, and of what a stranger can do with the result."""
    step = _WIDE + _GAP
    width = 40 + len(_STAGES) * step - _GAP
    parts = []
    for index, (name, note) in enumerate(_STAGES):
        x = 20 + index * step
        parts.append(_box(x, 62, name, note, "#1f6f54"))
        if index:
            parts.append(_arrow(x - _GAP + 2, 62 + _HIGH / 2, _GAP - 4))
    left = 20 + 2 * step
    for index, (name, note) in enumerate(_STRANGER):
        parts.append(_box(left + index * step * 1.18, 196, name, note, "#2b5d8a"))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} 282" role="img" \
aria-label="The chain: plan, quantize, verify, evaluate, benchmark, card, sign, publish">
<style>
text {{ font-family: system-ui, -apple-system, "Segoe UI", sans-serif; text-anchor: middle; }}
.name {{ font-size: 15px; font-weight: 600; fill: #fff; }}
.note {{ font-size: 11.5px; fill: #e6f0ec; }}
.head {{ font-size: 14px; fill: #44505c; text-anchor: start; }}
.arrow {{ stroke: #7a8793; fill: #7a8793; stroke-width: 1.6; }}
</style>
<rect width="{width}" height="282" rx="12" fill="#f4f6f8"/>
<text x="20" y="38" class="head"><tspan font-weight="600">proofcard run</tspan> \
one recipe, pinned sources and tools; every stage leaves a document with seeds and digests</text>
{"".join(parts)}<text x="{left}" y="178" class="head"><tspan font-weight="600">anybody</tspan> \
on a laptop, with the checkpoint, its source and a public key</text>
</svg>
"""
