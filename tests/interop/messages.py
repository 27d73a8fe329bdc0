"""The messages that are sent: IHE PCD observations, alerts and pump events of invented patients, in UTF-8.

Nothing here is taken from a library under test, so that none judges its own work.
"""

TIME = "20260105101112.250+0000"
GATEWAY = "PUMP_GATEWAY^0A0027FFFE000030^EUI-64"
DEVICE = "0A0027FFFE1000{:02X}^^0A0027FFFE1000{:02X}^EUI-64"
KINDS = (
    ("ORU^R01^ORU_R01", "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"),
    ("ORU^R40^ORU_R40", "IHE_PCD_ACM_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO"),
    ("ORU^R42^ORU_R01", "IHE_PCD_010^IHE PCD^1.3.6.1.4.1.19376.1.6.4.10^ISO"),
)
# Two, three and four bytes a letter, combining marks, right to left, and what a delimiter becomes in text.
NAMES = (
    "Müller^Jörg",
    "Łukasiewicz^Žofie",
    "山田^太郎",
    "Ng\u0303uyễn^Thị",
    "العلي^ليلى",
    "O\\T\\Brien^Siobhán",
    "𠮷野^家",
    "Ὀδυσσεύς^Νίκος",
)
UNITS = "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM"


def message(control_id, number, document_bytes=0):
    """One message as bytes; `number` chooses its kind, patient and device."""
    kind, profile = KINDS[number % len(KINDS)]
    segments = [
        f"MSH|^~\\&|{GATEWAY}|GENHOSP|||{TIME}||{kind}|{control_id}|P|2.6|||AL|NE||UNICODE UTF-8|||{profile}",
        f"PID|||SIM{number:06}^^^GENHOSP^MR||{NAMES[number % len(NAMES)]}^^^^^L",
        f"PV1||I|4 West^{200 + number % 20}^{1 + number % 2}^GENHOSP",
    ]
    segments += (observation, alert, event)[number % len(KINDS)](control_id, number)
    if document_bytes:
        place = sum(1 for segment in segments if segment.startswith("OBX")) + 1
        document = "QUJD" * (document_bytes // 4)
        segments.append(f"OBX|{place}|ED|0^MDCX_ATTR_REPORT^MDC|1.0.0.9|^application^pdf^Base64^{document}||||||R")
    return ("\r".join(segments) + "\r").encode()


def order(control_id, service):
    return f"OBR|1||{control_id}^PUMP_GATEWAY^0A0027FFFE000030^EUI-64|{service}|||{TIME}"


def device(number):
    return f"OBX|1||69986^MDC_DEV_PUMP_INFUS_MDS^MDC|1.0.0.0|||||||X|||||||{DEVICE.format(number % 256, number % 256)}"


def observation(control_id, number):
    return [
        order(control_id, "69985^MDC_DEV_PUMP_INFUS^MDC"),
        device(number),
        "OBX|2||69987^MDC_DEV_PUMP_INFUS_VMD^MDC|1.1.0.0|||||||X",
        "OBX|3||126978^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X",
        f"OBX|4|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|{number}.50|{UNITS}|||||R",
    ]


def alert(control_id, number):
    facts = ("CWE|196616^MDC_EVT_ALARM^MDC", "196940^MDC_EVT_FLUID_LINE_OCCL^MDC"), (
        "CWE|68480^MDC_ATTR_ALERT_SOURCE^MDC", "69985^MDC_DEV_PUMP_INFUS^MDC"), (
        "ST|68481^MDC_ATTR_EVENT_PHASE^MDC", "start"), (
        "ST|68482^MDC_ATTR_ALARM_STATE^MDC", "active"), (
        "ST|68483^MDC_ATTR_ALARM_INACTIVATION_STATE^MDC", "enabled"), (
        "ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC", "PH"), (
        "ST|68485^MDC_ATTR_ALERT_TYPE^MDC", "ST")
    rows = [f"OBX|{n}|{what}|1.1.1.9.{n - 1}|{value}||||||F" for n, (what, value) in enumerate(facts, 2)]
    return [order(control_id, "196616^MDC_EVT_ALARM^MDC"), device(number), *rows]


def event(control_id, number):
    return [
        order(control_id, "999999^Medication Unknown"),
        device(number),
        "OBX|2||69987^MDC_DEV_PUMP_INFUS_VMD^MDC|1.1.0.0|||||||X",
        "OBX|3||126978^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X",
        "OBX|4|CWE|68487^MDC_ATTR_EVT_COND^MDC|1.1.1.10|197288^MDC_EVT_PUMP_DELIV_START^MDC||||||R",
        f"OBX|5|NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.11|{number}|{UNITS}|||||R",
    ]


def batch(prefix, count, large_at=None, large_bytes=0):
    """`count` messages; the one at `large_at` carries a document of `large_bytes`."""
    return [message(f"{prefix}-{n:04}", n, large_bytes if n == large_at else 0) for n in range(count)]


def control_id(message):
    """MSH-10."""
    return message.split(b"|", 10)[9].decode()


def segments(message):
    """The segments, without regard to whether the last is terminated."""
    return [segment for segment in message.split(b"\r") if segment]
