"""Which windows there are at a position, by hand."""

from rl.policies.forgetting.config import Forgetting
from rl.policies.forgetting.windows import beginnings, kept, lengths

CONFIG = Forgetting(shortest=10, rates=2)


def test_windows_by_hand() -> None:
    assert lengths(CONFIG) == [10, 40]
    assert kept(CONFIG, 0) == kept(CONFIG, 9) == [0]
    assert kept(CONFIG, 19) == [0, 10]  # the first to begin, which nobody asks yet
    assert beginnings(CONFIG, 19) == [0, 0]
    assert beginnings(CONFIG, 20) == [10, 0]
    assert kept(CONFIG, 20) == [0, 10, 20]
    assert kept(CONFIG, 45) == [0, 30, 40]  # of 40 both: that it is short does not count
    assert beginnings(CONFIG, 85) == [70, 40]
    assert kept(CONFIG, 85) == [0, 40, 70, 80]


def test_a_window_that_is_kept_was_kept_ever_since_it_began() -> None:
    begun = dict[int, int]()
    for position in range(2_000):
        windows = kept(CONFIG, position)
        assert all(begin in begun for begin in windows if begin not in (0, position // 10 * 10))
        assert len(windows) <= 1 + 2 * CONFIG.rates
        asked = zip(beginnings(CONFIG, position), (10, 40), strict=True)
        assert all(position - begin < 2 * length for begin, length in asked)
        begun = dict.fromkeys(windows, position)
