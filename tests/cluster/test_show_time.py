from io import StringIO

from rich.console import Console

from espalier.tracking.goodput import Goodput
from espalier_cluster.show import show_time


def shown(goodput):
    console = Console(file=StringIO(), width=40)
    show_time(console, goodput)
    return console.file.getvalue()


def test_one_line_gives_useful_and_lost_seconds():
    goodput = Goodput(useful=812, redone=20, saving=12.25, restarting=0, hanging=0, waiting=28.75)
    line = "goodput 93 %: 812.0 s useful of 873.0 s; 20.0 s redone, 12.2 s saving, 28.8 s waiting\n"
    assert shown(goodput) == line


def test_a_run_without_losses_and_a_run_without_a_time_log():
    assert shown(Goodput(useful=11)) == "goodput 100 %: 11.0 s useful of 11.0 s\n"
    assert shown(Goodput()) == ""
