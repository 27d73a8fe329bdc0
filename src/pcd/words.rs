//! Our words for codes, for people who read an explanation. Never for machines: a code stays what was sent.

/// Words for an MDC identifier, or the text itself where it is none.
pub(super) fn of(text: &str) -> String {
    let Some(bare) = text.strip_prefix("MDC_").or_else(|| text.strip_prefix("MDCX_")) else {
        return enumerated(text);
    };
    if let Some((_, words)) = NAMES.iter().find(|(refid, _)| refid.strip_prefix("MDC_") == Some(bare)) {
        return (*words).to_owned();
    }
    let bare = PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)).unwrap_or(bare);
    bare.split('_').map(part).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `pump-delivery-status-not-delivering` is `not delivering`.
fn enumerated(text: &str) -> String {
    let own = ENUMERATIONS.iter().find_map(|prefix| text.strip_prefix(prefix));
    own.map_or_else(|| text.to_owned(), |own| own.replace('-', " "))
}

fn part(part: &str) -> String {
    let known = PARTS.iter().find(|(short, _)| *short == part).map(|(_, long)| (*long).to_owned());
    known.unwrap_or_else(|| part.to_lowercase())
}

const ENUMERATIONS: [&str; 6] = [
    "pump-status-",
    "pump-delivery-status-",
    "pump-program-delivery-mode-",
    "pump-mode-",
    "pump-source-info-",
    "pump-not-delivering-reason-",
];

const PREFIXES: [&str; 9] =
    ["EVT_PUMP_", "EVT_ADVIS_", "EVT_", "DMC_ATTR_", "ATTR_", "DEV_", "IDC_ENUM_", "IDC_MSMT_", "IDC_"];

const NAMES: &[(&str, &str)] = &[
    ("MDC_DEV_PUMP_INFUS_MDS", "infusion pump"),
    ("MDC_DEV_PUMP_INFUS_VMD", "infusion pump"),
    ("MDC_DEV_PUMP_INFUS_LVP_MDS", "volumetric infusion pump"),
    ("MDC_DEV_PUMP_INFUS_LVP_VMD", "volumetric infusion pump"),
    ("MDC_DEV_PUMP_INFUS_SYRINGE_MDS", "syringe pump"),
    ("MDC_DEV_PUMP_INFUS_SYRINGE_VMD", "syringe pump"),
    ("MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY", "primary source"),
    ("MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY_CHAN", "primary source"),
    ("MDC_DEV_PUMP_INFUSATE_SOURCE_SECONDARY", "secondary source"),
    ("MDC_DEV_PUMP_INFUSATE_SOURCE_SECONDARY_CHAN", "secondary source"),
    ("MDC_DEV_PUMP_DELIVERY_INFO", "delivery channel"),
    ("MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS", "patient monitor"),
    ("MDC_DEV_METER_PHYSIO_MULTI_PARAM_MDS", "patient monitor"),
    ("MDC_DEV_SYS_PT_VENT_MDS", "ventilator"),
    ("MDC_DEV_ANALY_SAT_O2_MDS", "pulse oximeter"),
    ("MDC_DEV_SPEC_PROFILE_CGM", "glucose sensor"),
    ("MDC_DEV_SPEC_PROFILE_GLUCOSE", "glucose meter"),
    ("MDC_DEV_SPEC_PROFILE_INSULIN_PUMP", "insulin pump"),
    ("MDC_DEV_SPEC_PROFILE_BP", "blood pressure monitor"),
    ("MDC_ECG_CARD_BEAT_RATE", "heart rate"),
    ("MDC_ECG_HEART_RATE", "heart rate"),
    ("MDC_ECG_STAT_RHY", "heart rhythm"),
    ("MDC_ECG_TIME_PD_QT_GL", "QT interval"),
    ("MDC_ECG_TIME_PD_QTc", "corrected QT interval"),
    ("MDC_PULS_RATE", "pulse rate"),
    ("MDC_PULS_RATE_NON_INV", "pulse rate"),
    ("MDC_PULS_OXIM_PULS_RATE", "pulse rate"),
    ("MDC_PULS_OXIM_SAT_O2", "oxygen saturation"),
    ("MDC_PULS_OXIM_PERF_REL", "perfusion index"),
    ("MDC_PRESS_BLD_NONINV", "cuff blood pressure"),
    ("MDC_PRESS_BLD_NONINV_SYS", "systolic cuff pressure"),
    ("MDC_PRESS_BLD_NONINV_DIA", "diastolic cuff pressure"),
    ("MDC_PRESS_BLD_NONINV_MEAN", "mean cuff pressure"),
    ("MDC_PRESS_BLD_ART_SYS", "systolic arterial pressure"),
    ("MDC_PRESS_BLD_ART_DIA", "diastolic arterial pressure"),
    ("MDC_PRESS_BLD_ART_MEAN", "mean arterial pressure"),
    ("MDC_PRESS_BLD_ART_ABP_SYS", "systolic arterial pressure"),
    ("MDC_PRESS_BLD_ART_ABP_DIA", "diastolic arterial pressure"),
    ("MDC_PRESS_BLD_ART_ABP_MEAN", "mean arterial pressure"),
    ("MDC_PRESS_BLD_VEN_CENT_MEAN", "central venous pressure"),
    ("MDC_PRESS_INTRA_CRAN_MEAN", "intracranial pressure"),
    ("MDC_RESP_RATE", "respiratory rate"),
    ("MDC_TTHOR_RESP_RATE", "respiratory rate"),
    ("MDC_AWAY_CO2_ET", "end-tidal CO2"),
    ("MDC_TEMP_BODY", "body temperature"),
    ("MDC_TEMP_CORE", "core temperature"),
    ("MDC_TEMP_BLD", "blood temperature"),
    ("MDC_CONC_GLU_ISF", "glucose"),
    ("MDC_CONC_GLU_GEN", "glucose"),
    ("MDC_CONC_GLU_TREND", "glucose trend"),
    ("MDC_FLOW_FLUID_PUMP", "flow rate"),
    ("MDC_FLOW_FLUID_PUMP_CURRENT", "current flow rate"),
    ("MDC_RATE_DOSE", "dose rate"),
    ("MDC_CONC_DRUG", "drug concentration"),
    ("MDC_DRUG_NAME_LABEL", "drug"),
    ("MDC_VOL_FLUID_TBI", "volume to be infused"),
    ("MDC_VOL_FLUID_TBI_REMAIN", "volume remaining"),
    ("MDC_VOL_FLUID_DELIV", "volume delivered"),
    ("MDC_VOL_FLUID_DELIV_SEGMENT", "volume of this segment"),
    ("MDC_VOL_FLUID_DELIV_TOTAL", "volume delivered in all"),
    ("MDC_VOL_INFUS_ACTUAL_TOTAL", "volume infused in all"),
    ("MDC_TIME_PD_REMAIN", "time remaining"),
    ("MDC_ATTR_PT_WEIGHT", "patient weight"),
    ("MDC_ATTR_PT_HEIGHT", "patient height"),
    ("MDC_PUMP_INFUSING_STATUS", "infusing status"),
    ("MDC_PUMP_STAT", "pump status"),
    ("MDC_EVT_LO", "low limit passed"),
    ("MDC_EVT_HI", "high limit passed"),
    ("MDC_EVT_FLUID_LINE_OCCL", "fluid line occluded"),
    ("MDC_EVT_PUMP_DELIV_START", "infusion started"),
    ("MDC_EVT_PUMP_DELIV_STOP", "infusion stopped"),
    ("MDC_EVT_PUMP_DELIV_COMP", "infusion complete"),
    ("MDC_EVT_BATT_LO", "battery low"),
    ("MDC_EVT_ACTIVE", "active"),
    ("MDC_EVT_ALARM", "alarm"),
    ("MDC_ECG_SINUS_RHY", "sinus rhythm"),
    ("MDC_ECG_PACED_RHY", "paced rhythm"),
];

const PARTS: &[(&str, &str)] = &[
    ("PRESS", "pressure"),
    ("BLD", "blood"),
    ("ART", "arterial"),
    ("VEN", "venous"),
    ("CENT", "central"),
    ("SYS", "systolic"),
    ("DIA", "diastolic"),
    ("NONINV", "cuff"),
    ("TEMP", "temperature"),
    ("RESP", "respiratory"),
    ("CONC", "concentration of"),
    ("GLU", "glucose"),
    ("SAT", "saturation"),
    ("AWAY", "airway"),
    ("VOL", "volume"),
    ("INFUS", "infusion"),
    ("DELIV", "delivery"),
    ("COMP", "complete"),
    ("CHG", "changed"),
    ("PROG", "program"),
    ("COMM", "communication"),
    ("BATT", "battery"),
    ("LO", "low"),
    ("HI", "high"),
    ("PD", "period"),
    ("PT", "patient"),
    ("DISCONN", "disconnected"),
    ("OCCL", "occluded"),
    ("MALF", "malfunction"),
    ("PROB", "problem"),
    ("POSN", "position"),
    ("ERR", "error"),
    ("CHK", "check"),
    ("STAT", "status"),
    ("INSP", "inspiratory"),
    ("EXP", "expiratory"),
    ("MON", "monitor"),
    ("PHYSIO", "physiological"),
    ("MULTI", "multi"),
    ("PARAM", "parameter"),
    ("SYRINGE", "syringe"),
    ("PULS", "pulse"),
    ("OXIM", "oximetry"),
    ("CARD", "cardiac"),
    ("ELEC", "electrical"),
    ("POTL", "potential"),
    ("AMPL", "amplitude"),
    ("O2", "O2"),
    ("CO2", "CO2"),
    ("ECG", "ECG"),
    ("EEG", "EEG"),
    ("ST", "ST"),
    ("I", "I"),
    ("II", "II"),
    ("III", "III"),
    ("V", "V"),
    ("SESS", "session"),
    ("DTM", "time"),
    ("INS", "insulin"),
    ("DEV", "device"),
    ("MDS", ""),
    ("VMD", ""),
    ("CHAN", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_in_words_and_texts_stay_as_they_are() {
        for (text, words) in [
            ("MDC_ECG_CARD_BEAT_RATE", "heart rate"),
            ("MDC_DEV_PRESS_BLD_VMD", "pressure blood"),
            ("MDCX_EVT_PUMP_FLOW_FREE", "flow free"),
            ("pump-delivery-status-not-delivering", "not delivering"),
            ("Downstream occlusion", "Downstream occlusion"),
            ("", ""),
        ] {
            assert_eq!(of(text), words);
        }
    }
}
