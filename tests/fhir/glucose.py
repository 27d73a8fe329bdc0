"""`cannula cgm-summary` of two weeks of invented readings, against a calculation of its own in Python; its FHIR goes through the
union of validators.
"""

import json
import math
import statistics
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "interop"))

from engine import Engine
from wire import send_pipelined

START, DAYS, EACH = datetime(2026, 3, 1, tzinfo=timezone.utc), 14, 12
PATIENT, OTHER, SYSTEM = "CGM-4711", "CGM-471", "urn:oid:2.999.40"
CHANNEL = """
[listener]
address = "{host}:2575"
[[destination]]
name = "file"
type = "file"
directory = "{folder}"
"""
UNIT = "264274^MDC_DIM_MILLI_G_PER_DL^MDC"


def course(day, five):
    """A value that wanders through all ranges: each day its own, meals three times a day."""
    hour = five / 12
    meals = sum(120 * math.exp(-((hour - meal) ** 2) / 2.5) for meal in (8, 13, 19))
    night = -75 * math.exp(-((hour - 3) ** 2) / 1.5) * (day % 3 == 0)
    return max(39, round(105 + meals + night + 14 * math.sin(five / 7 + day)))


def readings():
    """(time, value, flag) of two weeks, half a day of them missing."""
    for day in range(DAYS):
        for five in range(288):
            if day == 5 and five < 144:
                continue
            value = course(day, five)
            yield START + timedelta(days=day, minutes=5 * five), max(value, 40), "<" if value < 40 else ""


def message(control_id, patient, rows):
    obx = [
        f"OBX|{n}|NM|160212^MDC_CONC_GLU_ISF^MDC|1.0.0.{n}|{value}|{UNIT}||{flag}|||R|||{at:%Y%m%d%H%M%S}+0000"
        for n, (at, value, flag) in enumerate(rows, 2)
    ]
    return ("\r".join([
        f"MSH|^~\\&|CGM_GATEWAY^0A0027FFFE000050^EUI-64|HOME|||20260315000000+0000||ORU^R01^ORU_R01|{control_id}|P|2.6|||AL|NE",
        f"PID|||{patient}^^^HOSP^MR||Probe^Person",
        "OBR|1||F^CGM_GATEWAY|528409^MDC_DEV_SPEC_PROFILE_CGM^MDC|||20260301000000+0000",
        "OBX|1||528409^MDC_DEV_SPEC_PROFILE_CGM^MDC|1.0.0.0|||||||X|||||||^^0A0027FFFE000051^EUI-64",
        *obx,
    ]) + "\r").encode()


def messages(rows):
    parts = [rows[n : n + EACH] for n in range(0, len(rows), EACH)]
    own = [message(f"CGM-{n:05}", PATIENT, part) for n, part in enumerate(parts)]
    other = [message(f"OTHER-{n}", OTHER, [(at, 333, "") for at, _, _ in part]) for n, part in enumerate(parts[:5])]
    again = [message(f"AGAIN-{n}", PATIENT, part) for n, part in enumerate(parts[:7])]
    return [*own[:10], *other, *own[10:], *again]


def expected(rows):
    values = [value for _, value, _ in rows]
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    bands = [0] * 5
    for _, value, flag in rows:
        bands[0 if flag or value < 54 else 1 if value < 70 else 2 if value <= 180 else 3 if value <= 250 else 4] += 1
    shares = dict(zip(("very_low", "low", "in_range", "high", "very_high"), (100 * n / len(rows) for n in bands)))
    return {
        "readings": len(rows), "mean_mg_per_dl": mean, "sd_mg_per_dl": sd, "cv_percent": 100 * sd / mean,
        "gmi_percent": 3.31 + 0.02392 * mean, "days_worn": DAYS, "ranges": shares,
        "sensor_active_percent": 100 * len(rows) / (DAYS * 288), "interval_minutes": 5, "repeats": 7 * EACH,
        "beyond_scale": sum(1 for _, _, flag in rows if flag), "sufficient": True,
    }


def asked(engine, *more):
    period = ("--from", START.isoformat(), "--to", (START + timedelta(days=DAYS)).isoformat())
    program = [engine.program, "cgm-summary", "--patient", "-", *period, *more]
    answer = subprocess.run(program, cwd=engine.folder.name, input=PATIENT, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def differences(want, got, where=""):
    for name, wanted in want.items():
        if isinstance(wanted, dict):
            yield from differences(wanted, got[name], f"{where}{name}.")
        elif isinstance(wanted, bool) or not math.isclose(got[name], wanted, rel_tol=1e-9, abs_tol=1e-9):
            if got[name] is not wanted:
                yield f"{where}{name} is {got[name]}, wanted {wanted}"


def summed_up(union, program):
    """Prints what is wrong; whether nothing is."""
    rows = list(readings())
    with Engine(str(Path(program).absolute())) as engine:
        folder = Path(engine.folder.name) / "sent"
        folder.mkdir()
        engine.write("channels/cgm.toml", CHANNEL.format(host=engine.host, folder=folder))
        engine.start()
        answers = send_pipelined((engine.host, 2575), messages(rows))
        wrong = [f"refused: {answer}" for answer in answers if b"\rMSA|CA|" not in answer]
        wrong += differences(expected(rows), json.loads(asked(engine, "--json")))
        bundle = asked(engine, "--fhir", SYSTEM)
        wrong += [f"{finding.by}: {finding.where}: {finding.what}" for finding in union.findings(bundle)]
        log = (Path(engine.folder.name) / "log").read_text(errors="replace")
        wrong += ["the log names the patient"] if PATIENT in log else []
    for one in wrong[:10]:
        print(f"FAIL  cgm-summary: {one}")
    print(f"cgm-summary of {len(rows)} readings in two weeks: {len(wrong)} differences, {len(json.loads(bundle)['entry'])} Observations")
    return not wrong
