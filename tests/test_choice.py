"""The choice of a solver: by memory first, by time second, and in words."""

from __future__ import annotations

import pytest

from lle_gpu import MemoryLimitError
from lle_gpu.spectral import choice
from lle_gpu.spectral.choice import Cost, choose

MB = 10**6


def plan(
    solver="auto",
    n=10_000,
    q=2,
    *,
    limit=None,
    held=0,
    free=float("inf"),
    direct=(0.1, 10 * MB),
    filtered=(5, 5 * MB),
):
    asked = []

    def cost(name, seconds, size):
        asked.append(name)
        return Cost(seconds, size, name, held, free)

    chosen = choose(
        solver,
        n,
        q,
        memory_limit=limit,
        shift_invert=lambda: cost("factors", *direct),
        chebyshev=lambda within: cost("filter", *filtered),
    )
    return chosen, asked


def test_few_points_or_many_components_are_dense_and_cost_no_prediction():
    assert plan(n=200) == (choice.Plan("dense", "n=200 is at most 200"), [])
    assert plan(n=300, q=99)[0].reason == "n_components + 1 = 100 is a third of n=300 or more"
    assert plan("arpack", n=300, q=100)[0].solver == "dense"
    assert plan(n=201)[0].solver == "shift-invert"


def test_a_cheap_factorisation_is_not_compared():
    chosen, asked = plan()
    assert (chosen.solver, chosen.other, asked) == ("shift-invert", "chebyshev", ["factors"])


@pytest.mark.parametrize(("seconds", "winner"), [(20, "chebyshev"), (3, "shift-invert")])
def test_a_dear_factorisation_is_compared_by_time(seconds, winner):
    chosen, asked = plan(direct=(seconds, MB))
    assert chosen.solver == winner
    assert asked == ["factors", "filter"]
    assert "factors" in chosen.reason
    assert "filter" in chosen.reason


def test_memory_comes_before_time():
    chosen, _ = plan(limit=8 * MB)
    assert chosen.solver == "chebyshev"
    assert chosen.other == ""  # shift-invert would not fit
    assert "10MB" in chosen.reason
    assert "8MB" in chosen.reason
    chosen, _ = plan(limit=8 * MB, direct=(10, 7 * MB), filtered=(1, 9 * MB))
    assert (chosen.solver, chosen.other) == ("shift-invert", "")


def test_without_a_limit_the_free_memory_decides_and_nothing_is_refused():
    assert plan(free=8 * MB)[0].solver == "chebyshev"
    assert plan(free=MB)[0].solver == "chebyshev"
    assert plan("shift-invert", free=MB)[0].solver == "shift-invert"


def test_what_is_held_already_need_not_be_free():
    """10 MB of which 7 are held: 3 are missing."""
    assert plan(held=7 * MB, free=3 * MB)[0].solver == "shift-invert"
    chosen, _ = plan(held=7 * MB, free=2 * MB)
    assert chosen.solver == "chebyshev"
    assert "factors would need another 3MB, more than the 2MB that are free" in chosen.reason
    # The filter, whose 9 MB would be faster, likewise.
    slow = {"direct": (10, 5 * MB), "filtered": (1, 9 * MB), "held": 5 * MB}
    assert plan(**slow, free=4 * MB)[0].solver == "chebyshev"
    chosen, _ = plan(**slow, free=3 * MB)
    assert chosen.solver == "shift-invert"
    assert "filter would need another 4MB, more than the 3MB that are free" in chosen.reason


def test_a_limit_is_for_what_is_held_too():
    chosen, _ = plan(held=7 * MB, limit=8 * MB)
    assert chosen.solver == "chebyshev"
    assert "factors would need 10MB, more than the 8MB that are allowed" in chosen.reason


@pytest.mark.parametrize(
    ("solver", "least"), [("auto", "5MB"), ("shift-invert", "10MB"), ("chebyshev", "5MB")]
)
def test_a_limit_that_nothing_keeps_says_the_least(solver, least):
    with pytest.raises(MemoryLimitError, match=f"memory_limit='{least}' is needed"):
        plan(solver, limit=4 * MB)


def test_factors_that_could_not_be_looked_at_are_no_least():
    with pytest.raises(MemoryLimitError, match="memory_limit='5MB' is needed"):
        plan(limit=2 * MB, direct=(float("inf"), 3 * MB))
    with pytest.raises(MemoryLimitError, match="memory_limit='3MB' is needed"):
        plan(limit=2 * MB, direct=(1, 3 * MB))


def test_the_dense_solver_counts_what_is_held():
    def dense(limit):
        nothing = Cost(0, 0, "")
        return choose(
            "dense",
            500,
            2,
            memory_limit=limit,
            shift_invert=lambda: nothing,
            chebyshev=lambda _: nothing,
            held=70 * MB,
        )

    with pytest.raises(MemoryLimitError, match="dense solver with n=500") as e:
        dense(71 * MB)
    least = int(str(e.value).split("memory_limit='")[1].split("MB")[0])
    assert least > 71
    assert dense(least * MB).solver == "dense"


def test_the_dense_solver_keeps_the_limit_too():
    with pytest.raises(MemoryLimitError, match="dense solver with n=10000"):
        plan("dense", limit=100 * MB)
    assert plan("dense", n=500, limit=100 * MB)[0].solver == "dense"
