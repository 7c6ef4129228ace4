import io
from itertools import count

from rich.console import Console

from espalier.tracking.events import Event
from espalier.tracking.follow import News
from espalier.tracking.progress import LineDisplay, LiveDisplay, open_display
from framework.tracking.samples import step

STAGES = ("parent", "slim", "heal")


def lines_of(console_file):
    return console_file.getvalue().splitlines()


def test_without_a_terminal_there_are_plain_lines():
    file = io.StringIO()
    with open_display(STAGES, Console(file=file, force_terminal=False, width=60)) as display:
        assert isinstance(display, LineDisplay)
        display.show(News(events=(Event("started", "heal", 1.0),), steps=(step(3),)))
        display.show(News(events=(Event("failed", "heal", 9.0, "out of memory \x1b[31m on rank 1"),)))
    assert "\x1b" not in file.getvalue()
    assert lines_of(file) == [
        "[3/3] heal started",
        "[3/3] heal  3/7  loss 2.5  512 tokens/s  3.00 GiB  8.0 s left",
        "[3/3] heal failed out of memory  on rank 1",
    ]


def test_lines_of_a_stage_that_steps_are_ten_seconds_apart():
    file = io.StringIO()
    clock = count(100)
    display = LineDisplay(STAGES, Console(file=file, width=200), clock=lambda: next(clock) / 2)
    display.show(News(events=(Event("started", "heal", 1.0),)))
    for number in range(1, 81):
        display.show(News(steps=(step(number),)))
    assert 3 <= len(lines_of(file)) - 1 <= 6


def test_a_stage_that_does_not_get_on_has_one_line():
    file = io.StringIO()
    display = LineDisplay(STAGES, Console(file=file, width=200), clock=count(0, 20).__next__)
    display.show(News(events=(Event("started", "heal", 1.0),), steps=(step(5),)))
    for _ in range(9):
        display.show(News())
    display.show(News(steps=(step(6),)))
    assert [line.split("  ")[1] for line in lines_of(file) if "loss" in line] == ["5/7", "6/7"]


def test_the_live_table_shows_the_status_of_each_stage():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=120, color_system=None)
    with LiveDisplay(STAGES, console, clock=lambda: 65.0) as display:
        display.show(
            News(
                events=(
                    Event("started", "parent", 1.0),
                    Event("finished", "parent", 4.5),
                    Event("started", "slim", 5.0),
                    Event("activity", "slim", 6.0, "measuring importance 120/1024"),
                )
            )
        )
    shown = lines_of(file)
    assert any("✓ parent" in line and "3.5 s" in line for line in shown)
    assert any("slim" in line and "1:00 min" in line and "measuring importance 120/1024" in line for line in shown)
    assert any("· heal" in line for line in shown)


def test_after_a_resume_the_live_table_goes_back_and_continues():
    file = io.StringIO()
    display = LineDisplay(STAGES, Console(file=file, width=200), clock=count(0, 20).__next__)
    display.show(News(events=(Event("started", "heal", 1.0),), steps=(step(5),)))
    display.show(News(events=(Event("resumed", "heal", 1150.0, "from step 2"),), num_forgotten_steps=3))
    display.show(News(steps=(step(3, attempt=2),)))
    assert [line.split("  ")[1] for line in lines_of(file) if "loss" in line] == ["5/7", "3/7"]
    assert "[3/3] heal resumed from step 2" in lines_of(file)
