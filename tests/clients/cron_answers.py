"""Writes tests/data/cron.csv: cron expressions with the answers of croniter 7.0.0 (PyPI), which knows nothing of ours.

    python tests/clients/cron_answers.py > tests/data/cron.csv

Left out, because both differ by design and tests/it/schedules.rs says how: ranges that wrap around, a step behind one
number, fields that croniter draws by a hash, and a date beside `MON#2` or `FRIL`, which croniter forgets. Zones with
clock changes have starts that are months away from one: what becomes of missing and repeated times is ours, and tested
against a reference of our own.
"""

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import croniter

CASES = 2_400
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
WEEKDAYS = "SUN MON TUE WED THU FRI SAT".split()
STEADY = ["UTC", "Asia/Tokyo", "Asia/Kolkata", "America/Phoenix", "Asia/Kathmandu", "Pacific/Honolulu"]
CHANGING = ["Europe/Berlin", "America/New_York", "Australia/Sydney", "America/Santiago", "Europe/London"]
rand = random.Random(4)


def number(low, high, names=None):
    value = rand.randint(low, high)
    if names and rand.random() < 0.5:
        return names[(value - low) % len(names)]
    return str(value)


def span(low, high, names=None):
    first, last = sorted(rand.sample(range(low, high + 1), 2))
    if names and rand.random() < 0.5:
        return f"{names[first - low]}-{names[last - low]}"
    return f"{first}-{last}"


def entry(low, high, names=None):
    kind = rand.random()
    if kind < 0.5:
        return number(low, high, names)
    if kind < 0.75:
        return span(low, high, names)
    if kind < 0.9:
        return f"{span(low, high)}/{rand.randint(1, max(2, (high - low) // 3))}"
    return f"*/{rand.randint(2, max(3, (high - low) // 2))}"


def field(low, high, free, names=None):
    if rand.random() < free:
        return "*"
    return ",".join(entry(low, high, names) for _ in range(rand.choice([1, 1, 1, 2, 3])))


def expression():
    if rand.random() < 0.03:
        return rand.choice(["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"])
    day = field(1, 31, 0.6)
    weekday = field(0, 6, 0.6, WEEKDAYS)
    special = rand.random()
    if special < 0.05:
        day = rand.choice(["L", "1,L", "L,15"])
    elif special < 0.12:
        day, weekday = "*", f"{rand.choice(WEEKDAYS)}#{rand.randint(1, 5)}"
    elif special < 0.16:
        day, weekday = "*", f"L{rand.randint(0, 6)}"
    elif special < 0.18:
        weekday = "7"
    minute, hour = field(0, 59, 0.2), field(0, 23, 0.4)
    return " ".join([minute, hour, day, field(1, 12, 0.7, MONTHS), weekday])


def start(zone):
    if zone in STEADY:
        return datetime(2000, 1, 1) + timedelta(seconds=rand.randint(0, 40 * 365 * 86_400))
    # Early January and July are months away from any change of these zones.
    year, month, day = rand.randint(2001, 2037), rand.choice([1, 7]), rand.randint(1, 20)
    return datetime(year, month, day, rand.randint(0, 23), rand.randint(0, 59))


def case():
    text = expression()
    zone = rand.choice(STEADY if rand.random() < 0.7 else CHANGING)
    local = start(zone)
    aware = local.replace(tzinfo=ZoneInfo(zone))
    answers = []
    walk = croniter.croniter(text, aware, ret_type=datetime)
    try:
        for _ in range(3):
            answers.append(walk.get_next().replace(tzinfo=None))
    except croniter.CroniterBadDateError:
        # It looks ahead fifty years; the expression never fires, or in February of leap years only.
        return None
    if zone in CHANGING and answers[-1] - local > timedelta(days=40):
        return None
    # croniter writes the last Friday as L5, others and we as 5L.
    fields = text.split(" ")
    if fields[-1].startswith("L"):
        fields[-1] = fields[-1][1:] + "L"
    moment = aware.astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M:%SZ")
    return ";".join([" ".join(fields), zone, moment, *(answer.strftime("%Y-%m-%dT%H:%M") for answer in answers)])


print("# Made by tests/clients/cron_answers.py: expression, zone, start, the three local times that follow.")
written = set()
while len(written) < CASES:
    line = case()
    if line and line not in written:
        written.add(line)
        print(line)
