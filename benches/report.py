"""How figures are printed: a title, the median, the unit, the range over the rounds, and ratios."""
import statistics


def row(rounds, title, key, unit, *against):
    """One line for one figure; a ratio is the median of the ratios of each round."""
    values = [one[key] for one in rounds]
    ratios = [statistics.median(one[key] / one[other] for one in rounds) for other in against]
    spread = f"{min(values):.0f}–{max(values):.0f}"
    print(f"{title:<34}{statistics.median(values):>10.0f} {unit:<10}{spread:>16}", *(f"{r:>10.2f}" for r in ratios))


def heading(title, *ratios):
    print(f"{title:<61}", *(f"{ratio:>10}" for ratio in ratios))
