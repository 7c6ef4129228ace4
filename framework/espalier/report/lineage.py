"""Draw the lineage of a run's models as SVG: a box for each model, arrows from its parent, its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from espalier.report.layout import Spot, laid_out
from espalier.report.run import PlannedStage, RunRecord
from espalier.tracking.number_format import count_text

_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y, _EDGE = 204, 138, 52, 44, 20
_ARC_HEIGHT = 46
_LONGEST_NAME = 16  # characters that fit beside the state

_BOX = Markup(
    '<g transform="translate({left} {top})" class="model {state_class}">{hint}'
    '<rect class="box" width="{width}" height="{height}" rx="8"/>'
    '<text class="name" x="14" y="24">{name}</text>'
    '<text x="{right}" y="24" text-anchor="end">{state}</text>'
    '<text class="size" x="14" y="52">{size}</text>'
    '<text x="{right}" y="52" text-anchor="end">{percent}</text>'
    '<rect class="track" x="14" y="62" width="{inner}" height="5" rx="2.5"/>'
    '<rect class="fill" x="14" y="62" width="{fill:.1f}" height="5" rx="2.5"/>'
    '<text x="14" y="88">{body}</text><text x="14" y="106">{ends}</text>'
    '<text x="14" y="124">{attention}</text></g>'
)

_ARROW_HEAD = Markup(
    '<marker id="{}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path d="M0 0L8 4L0 8z" class="{}"/></marker>'
)


@dataclass(frozen=True)
class _Box:
    spot: Spot

    @property
    def stage(self) -> PlannedStage:
        return self.spot.stage

    @property
    def left(self) -> int:
        return _EDGE + self.spot.column * (_BOX_WIDTH + _GAP_X)

    @property
    def top(self) -> int:
        return _ARC_HEIGHT + self.spot.row * (_BOX_HEIGHT + _GAP_Y)


def lineage_drawing(run: RunRecord) -> Markup:
    """Draw a box for each model, from the loaded to the exported one, with arrows to children and from teachers."""
    boxes = [_Box(spot) for spot in laid_out([stage for stage in run.stages if stage.has_model])]
    if not boxes:
        return Markup("")
    by_name = {box.stage.name: box for box in boxes}
    width = max(box.left for box in boxes) + _BOX_WIDTH + _EDGE
    height = max(box.top for box in boxes) + _BOX_HEIGHT + _EDGE
    parts = [
        _ARROW_HEAD.format("head", "head"),
        _ARROW_HEAD.format("taught", "taught-head"),
        *(_arrow(by_name[box.stage.parent], box) for box in boxes if box.stage.parent in by_name),
    ]
    for box in boxes:
        teacher = by_name.get(box.stage.inputs.get("teacher", ""))
        parts += [_taught(teacher, box)] if teacher else []
        parts.append(_drawn_box(box, run))
    return Markup(
        '<svg class="lineage" viewBox="0 0 {} {}" width="{}" role="img" aria-label="Lineage">{}</svg>'
    ).format(width, height, width, Markup("").join(parts))


def _arrow(start: _Box, end: _Box) -> Markup:
    x, y = start.left + _BOX_WIDTH, start.top + _BOX_HEIGHT // 2
    to_x, to_y = end.left - 2, end.top + _BOX_HEIGHT // 2
    if end.left > start.left:
        middle = (x + to_x) // 2
        way = f"M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}"
    else:  # the child begins the next row: lead the arrow between the rows
        between = end.top - _GAP_Y // 2
        way = f"M{x} {y}h12V{between}H{end.left - 12}V{to_y}H{to_x}"
    return Markup('<path class="arrow" marker-end="url(#head)" d="{}"/>').format(way)


def _taught(teacher: _Box, student: _Box) -> Markup:
    """Draw an arc from a teacher to a student in the same row; otherwise write the teacher's name above the student."""
    is_near = teacher.top == student.top and teacher.left < student.left
    return _teacher_arc(teacher, student) if is_near else _teacher_word(teacher, student)


def _teacher_word(teacher: _Box, student: _Box) -> Markup:
    return Markup('<text class="taught" x="{}" y="{}">teacher {}</text>').format(
        student.left + 14, student.top - 6, _short(teacher.stage.name)
    )


def _teacher_arc(teacher: _Box, student: _Box) -> Markup:
    x, to_x = teacher.left + _BOX_WIDTH * 3 // 4, student.left + _BOX_WIDTH // 3
    y, to_y, crest = teacher.top, student.top - 3, min(teacher.top, student.top) - _ARC_HEIGHT + 16
    return Markup(
        '<path class="taught" marker-end="url(#taught)" d="M{} {}C{} {} {} {} {} {}"/>'
        '<text class="taught" x="{}" y="{}" text-anchor="middle">teacher</text>'
    ).format(x, y, x + 10, crest, to_x - 10, crest, to_x, to_y, (x + to_x) // 2, crest + 3)


def _drawn_box(box: _Box, run: RunRecord) -> Markup:
    stage, shape = box.stage, box.stage.shape
    root = run.root(stage.name)
    whole = root.shape.get("parameters", 0) if root else 0
    share = shape.get("parameters", 0) / whole if whole else 0.0
    inner = _BOX_WIDTH - 28
    return _BOX.format(
        left=box.left,
        top=box.top,
        state_class=run.states[stage.name].replace(" ", "-"),
        width=_BOX_WIDTH,
        height=_BOX_HEIGHT,
        right=_BOX_WIDTH - 14,
        name=_short(stage.name),
        hint=Markup("<title>{}</title>").format(stage.name) if _short(stage.name) != stage.name else "",
        state=stage.declared.past if run.states[stage.name] == "done" else run.states[stage.name],
        size=count_text(shape["parameters"]) if "parameters" in shape else "",
        percent=f"{100 * share:.0f} %" if share else "",
        inner=inner,
        fill=inner * min(1.0, share),
        body=_joined(shape, (("layers", "layers"), ("hidden", "hidden"))),
        ends=_joined(shape, (("ffn", "ffn"), ("vocabulary", "vocabulary"))),
        attention=_joined(shape, (("heads", "heads"), ("kv_heads", "kv"), ("head_dim", "wide"))),
    )


def _joined(shape: dict[str, int], sizes: Sequence[tuple[str, str]]) -> str:
    return " · ".join(f"{shape[key]} {word}" for key, word in sizes if key in shape)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
