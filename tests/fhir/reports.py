"""Device reports that are sent to the engine: IHE PCD-01 of invented patients and devices, each message told apart by its
control id and time. Written by hand, in the forms gateways are known to send.
"""

from datetime import datetime, timedelta, timezone

GATEWAY = "0A0027FFFE000040"
PROFILE = "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"
EPOCH = datetime(2026, 1, 5, 10, 0, 0)
MMHG, PERCENT = "266016^MDC_DIM_MMHG^MDC", "262688^MDC_DIM_PERCENT^MDC"
ML_H, ML = "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM", "263762^MDC_DIM_MILLI_L^MDC^mL^mL^UCUM"
MG_DL, MMOL_L = "264274^MDC_DIM_MILLI_G_PER_DL^MDC", "266866^MDC_DIM_MILLI_MOLE_PER_L^MDC"
OFFSETS = ("+0000", "+0100", "-0500", "+0545")


def patient(number):
    return f"P{number:05}"


def device(number):
    return f"0A0027FFFE{number:06X}"


def stamp(second, offset):
    """The moment `second` after the epoch, told in a zone of that offset."""
    sign = 1 if offset[0] == "+" else -1
    shift = sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
    return (EPOCH + timedelta(seconds=second) + shift).strftime("%Y%m%d%H%M%S") + offset


def report(control_id, number, second, rows, who=None):
    """One message as bytes: `rows` are OBX-2 to OBX-11 as (type, code, path, value, unit, limits, flags, status)."""
    offset = OFFSETS[number % len(OFFSETS)]
    when = stamp(second, offset)
    segments = [
        f"MSH|^~\\&|LAB_GATEWAY^{GATEWAY}^EUI-64|NORTH|||{when}||ORU^R01^ORU_R01|{control_id}|P|2.6|||AL|NE||UNICODE UTF-8|||{PROFILE}",
        f"PID|||{who or patient(number)}^^^HOSP^MR||Probe^Person{number}^^^^^L",
        f"PV1||I|WARD^{number}^1",
        f"OBR|1||{control_id}^LAB_GATEWAY^{GATEWAY}^EUI-64|182777000^monitoring of patient^SCT|||{when}",
        f"OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||^^{device(number)}^EUI-64",
        "OBX|2||69798^MDC_DEV_ECG_VMD^MDC|1.1.0.0|||||||X",
    ]
    for place, (kind, code, path, value, unit, limits, flags, status) in enumerate(rows, 3):
        segments.append(f"OBX|{place}|{kind}|{code}^MDC|{path}|{value}|{unit}|{limits}|{flags}|||{status}|||{when}")
    return ("\r".join(segments) + "\r").encode()


def monitor(n):
    return [
        ("NM", "150021^MDC_PRESS_BLD_NONINV_SYS", "1.1.1.1", f"{100 + n % 60}", MMHG, "90-160", "N", "R"),
        ("NM", "150022^MDC_PRESS_BLD_NONINV_DIA", "1.1.1.2", f"{60 + n % 30}.50", MMHG, "", "", "F"),
        ("NM", "150456^MDC_PULS_OXIM_SAT_O2", "1.1.2.1", "" if n % 5 == 0 else f"{90 + n % 10}", PERCENT, "", "", "X" if n % 5 == 0 else "R"),
        ("ST", "184327^MDC_ECG_STAT_RHY", "1.1.3.1", f"sinus \\T\\ regular {n}", "", "", "", "R"),
    ]


def pump(n):
    return [
        ("NM", "157784^MDC_FLOW_FLUID_PUMP", "1.1.1.1", f"{n % 90}.05", ML_H, "", "", "R"),
        ("NM", "157993^MDC_VOL_FLUID_DELIV_TOTAL", "1.1.1.2", f"+{n}.500", ML, "", "QUES" if n % 3 == 0 else "", "R"),
        ("CWE", "184519^MDC_PUMP_INFUSING_STATUS", "1.1.1.3", "^pump-status-infusing", "", "", "", "R"),
    ]


def glucose(n):
    low = n % 7 == 0
    return [
        ("NM", "160212^MDC_CONC_GLU_ISF", "1.1.1.1", "40" if low else f"{70 + n % 200}", MG_DL, "", "<" if low else "", "R"),
        ("NM", "160020^MDC_CONC_GLU_GEN", "1.1.1.2", f"{4 + n % 9}.{n % 10}0", MMOL_L, "", "", "F"),
    ]


KINDS = (monitor, pump, glucose)


def batch(prefix, count, people, start=0):
    """`count` messages of `people` patients, each with a device of its own."""
    return [report(f"{prefix}-{n:05}", n % people, start + n, KINDS[n % len(KINDS)](n)) for n in range(count)]


def control_id(message):
    return message.split(b"|", 10)[9].decode()


def utc(text):
    """An HL7 time with an offset as an instant."""
    return datetime.strptime(text[:14] + text[-5:], "%Y%m%d%H%M%S%z").astimezone(timezone.utc)
