"""Bar charts as SVG, by hand: two bars a group, with the span of the rounds and the median written at the end."""
import math
from xml.sax.saxutils import escape

COLOURS = ("#2f6fb7", "#d9822b")
LABELS, BARS, VALUES = 220, 470, 90
BAR, GAP, TOP, FOOT = 13, 12, 62, 40
FONT = 'font-family="Helvetica, Arial, sans-serif"'


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}"


def axis(values, log=None):
    """(lowest, highest, ticks, is logarithmic) of an axis for these values. Logarithmic where they differ thirtyfold, unless told."""
    positive = [v for v in values if v > 0]
    if not positive:
        return 0.0, 1.0, [0.0, 1.0], False
    high, low = max(positive), min(positive)
    if log is None:
        log = high / low > 30
    if log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        # A value at the lower end would have no bar.
        if math.log10(low) - first < 0.15:
            first -= 1
        last = max(last, first + 1)
        return 10.0 ** first, 10.0 ** last, [10.0 ** e for e in range(first, last + 1)], True
    step = 10 ** math.floor(math.log10(high / 4))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if high / (step * m) <= 5)
    count = math.ceil(high / step - 1e-9)
    return 0.0, step * count, [step * i for i in range(count + 1)], False


def bars(title, unit, better, sides, groups, log=None):
    """A chart. `sides` are two names; `groups` are (label, [side A, side B]) with each side (median, lowest, highest) or None where
    there is no number."""
    drawn = [s for _, pair in groups for s in pair if s]
    low, high, ticks, log = axis([v for s in drawn for v in s], log)

    def x(value):
        if log:
            part = (math.log10(max(value, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        else:
            part = (value - low) / (high - low)
        return LABELS + BARS * min(max(part, 0.0), 1.0)

    each = 2 * BAR + GAP
    width, bottom = LABELS + BARS + VALUES, TOP + each * len(groups)
    sense = {"<": "lower is better", ">": "higher is better"}.get(better, "")
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom + FOOT}" viewBox="0 0 {width} {bottom + FOOT}" {FONT} font-size="12">',
           f'<title>{escape(title)}</title>',
           '<rect width="100%" height="100%" fill="#ffffff"/>',
           f'<text x="12" y="22" font-size="15" font-weight="bold" fill="#222222">{escape(title)}</text>']
    left = 12
    for name, colour in zip(sides, COLOURS):
        out.append(f'<rect x="{left}" y="34" width="12" height="12" fill="{colour}"/>'
                   f'<text x="{left + 17}" y="44" fill="#222222">{escape(name)}</text>')
        left += 34 + 7 * len(name)
    for tick in ticks:
        out.append(f'<line x1="{x(tick):.1f}" y1="{TOP - 6}" x2="{x(tick):.1f}" y2="{bottom}" stroke="#dddddd"/>'
                   f'<text x="{x(tick):.1f}" y="{bottom + 15}" text-anchor="middle" fill="#555555">{number(tick)}</text>')
    note = ", ".join(filter(None, [unit, "logarithmic" if log else "", sense, "line: lowest to highest round"]))
    out.append(f'<text x="{LABELS + BARS / 2:.1f}" y="{bottom + 32}" text-anchor="middle" fill="#555555">{escape(note)}</text>')
    for i, (label, pair) in enumerate(groups):
        y = TOP + i * each
        out.append(f'<text x="{LABELS - 8}" y="{y + BAR + 4}" text-anchor="end" fill="#222222">{escape(label)}</text>')
        for k, side in enumerate(pair):
            top = y + k * BAR
            middle = top + BAR / 2
            if side is None:
                out.append(f'<text x="{LABELS + 4}" y="{top + BAR - 3}" font-size="10" fill="#aa2222">no number</text>')
                continue
            median, least, most = side
            out.append(f'<rect x="{LABELS}" y="{top}" width="{max(x(median) - LABELS, 1):.1f}" height="{BAR - 1}" fill="{COLOURS[k]}"/>')
            if most > least:
                out.append(f'<line x1="{x(least):.1f}" y1="{middle:.1f}" x2="{x(most):.1f}" y2="{middle:.1f}" stroke="#222222"/>')
            out.append(f'<text x="{max(x(median), x(most)) + 5:.1f}" y="{top + BAR - 3}" font-size="10" fill="#222222">{number(median)}</text>')
    out.append(f'<line x1="{LABELS}" y1="{TOP - 6}" x2="{LABELS}" y2="{bottom}" stroke="#888888"/></svg>')
    return "\n".join(out) + "\n"
