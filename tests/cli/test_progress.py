from jaxff.cli import console, solving
from jaxff.linalg.progress import Progress


def test_the_bar_shows_the_time_left_that_it_is_told():
    with console.progress("solving", 1.0) as bar:
        (task,) = bar._display.tasks
        column = next(c for c in bar._display.columns if type(c).__name__ == "TimeLeft")
        assert column.render(task).plain == "-:--:--"
        bar.remaining(3683.4)
        assert column.render(task).plain == "1:01:23"
        bar.remaining(None)
        assert column.render(task).plain == "-:--:--"


def test_the_solver_of_the_command_line_tells_the_time_left(monkeypatch):
    options = {}
    monkeypatch.setattr(
        "jaxff.linalg.solvers.conjugate_gradient", lambda **given: options.update(given)
    )
    told = []
    asked = solving.Solving(solver="cg", rank=3)
    solving.build_solver(asked, lambda part: None, told.append)
    options["callback"](Progress("iterations", 7, 0.1, 0.2, 3, 42.0))
    assert told == [42.0]
    solving.build_solver(asked, lambda part: None)
    assert options["callback"] is None
