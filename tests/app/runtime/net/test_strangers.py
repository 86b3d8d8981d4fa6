"""Whoever guesses tokens uses up the places of his host."""

from app.runtime.net.strangers import (
    FIRST_S,
    FREE,
    HOSTS_MAX,
    LONGEST_S,
    STRANGERS_OF_HOST_MAX,
    Penalties,
)


def test_each_wrong_token_costs_longer_than_the_one_before() -> None:
    found = Penalties()
    costs = [found.add("a", 0.0) for _ in range(FREE + 9)]
    assert costs[:FREE] == [0.0] * FREE
    assert costs[FREE : FREE + 3] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert costs[-1] == LONGEST_S
    assert found.places("a", 0.0) == 9
    assert found.places("a", FIRST_S) == 8
    assert found.places("a", LONGEST_S) == 0
    assert found.places("b", 0.0) == 0


def test_a_host_begins_anew_after_a_minute() -> None:
    found = Penalties()
    for _ in range(10):
        found.add("a", 0.0)
    assert found.add("a", 61.0) == 0.0


def test_a_host_that_goes_on_guessing_has_few_guesses() -> None:
    """A simulation of an hour: a guess whenever there is a place."""
    found, guesses = Penalties(), 0
    for tenth in range(36_000):
        now_s = tenth / 10
        while found.places("a", now_s) < STRANGERS_OF_HOST_MAX:
            found.add("a", now_s)
            guesses += 1
    assert guesses < 2.2 * 3600 + 200


def test_the_table_is_bounded_and_keeps_the_latest() -> None:
    found = Penalties()
    for n in range(5 * HOSTS_MAX):
        for _ in range(FREE + 1):
            found.add(f"host{n}", 1.0)
    assert len(found._hosts) == HOSTS_MAX
    assert found.places(f"host{5 * HOSTS_MAX - 1}", 1.0) == 1
    assert found.places("host0", 1.0) == 0
