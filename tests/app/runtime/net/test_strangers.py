"""The wait after wrong tokens, with a clock of its own."""

from app.runtime.net.strangers import (
    FORGET_S,
    FREE,
    HOSTS_MAX,
    WAIT_S_MAX,
    WAIT_S_MIN,
    WrongTokens,
)


def test_the_wait_doubles_up_to_its_maximum() -> None:
    wrong, now_s, waits = WrongTokens(), 1000.0, []
    assert wrong.wait_s("a", now_s) == 0
    for _ in range(60):
        wrong.add("a", now_s)
        waits.append(wrong.wait_s("a", now_s))
        now_s += waits[-1]
        assert wrong.wait_s("a", now_s) == 0, "then the next token is looked at"
    assert waits[:FREE] == [0] * FREE
    assert waits[FREE : FREE + 3] == [WAIT_S_MIN, 2 * WAIT_S_MIN, 4 * WAIT_S_MIN]
    assert waits[-1] == max(waits) == WAIT_S_MAX


def test_other_hosts_do_not_wait_and_a_right_token_ends_it() -> None:
    wrong = WrongTokens()
    for _ in range(FREE + 1):
        wrong.add("a", 1.0)
    assert wrong.wait_s("a", 1.0) == WAIT_S_MIN
    assert wrong.wait_s("b", 1.0) == 0
    wrong.forget("a")
    assert wrong.wait_s("a", 1.0) == 0
    wrong.add("a", 2.0)
    assert wrong.wait_s("a", 2.0) == 0


def test_a_host_is_forgotten_in_time() -> None:
    wrong = WrongTokens()
    for _ in range(10):
        wrong.add("a", 5.0)
    assert wrong.wait_s("a", 5.1 + FORGET_S) == 0
    assert len(wrong) == 0


def test_the_number_of_hosts_is_bounded_and_the_latest_stay() -> None:
    wrong = WrongTokens()
    for number in range(3 * HOSTS_MAX):
        wrong.add(f"host{number}", number * 1e-6)
        wrong.add("guesser", number * 1e-6)
    assert len(wrong) == HOSTS_MAX
    assert wrong.wait_s("guesser", 1e-3) > WAIT_S_MAX - 1
    assert wrong.wait_s("host0", 1e-3) == 0
