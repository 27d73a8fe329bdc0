//! The messages rows are made of: one good device report, its ids and the answers it asks for. Every id is new, or a row
//! would be a repeat of the one before it.

/// Which answers a message asks for in MSH-15 and MSH-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Both empty: AA, AE, AR.
    Original,
    /// AL and NE: CA, CE, CR.
    Enhanced,
}

impl Mode {
    fn asked(self) -> (&'static str, &'static str) {
        match self {
            Mode::Original => ("", ""),
            Mode::Enhanced => ("AL", "NE"),
        }
    }
}

/// The good message a row changes.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) id: String,
    pub(super) mode: Mode,
}

impl Draft {
    /// The message as this draft asks for answers.
    pub(super) fn text(&self) -> String {
        let (msh_15, msh_16) = self.mode.asked();
        self.asking(msh_15, msh_16)
    }

    /// The message with these MSH-15 and MSH-16.
    pub(super) fn asking(&self, msh_15: &str, msh_16: &str) -> String {
        message(&self.id, msh_15, msh_16)
    }

    /// The message with the first `from` replaced.
    pub(super) fn with(&self, from: &str, to: &str) -> String {
        self.text().replacen(from, to, 1)
    }

    /// The message under another id.
    pub(super) fn renamed(&self, id: &str) -> String {
        Draft { id: id.to_owned(), mode: self.mode }.text()
    }
}

/// The good message behind a row, which must be taken.
pub(super) fn good(id: &str) -> String {
    message(id, "AL", "NE")
}

fn message(id: &str, msh_15: &str, msh_16: &str) -> String {
    format!(
        "MSH|^~\\&|PUMP_GATEWAY^0A0027FFFE000030^EUI-64|MLLP TEST|||20260102030405+0000||ORU^R01^ORU_R01|{id}|P|2.6|||{msh_15}|{msh_16}|||||IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO\r\
         PID|||SPEC1^^^GENHOSP^MR||Spec^Test^^^^^L\r\
         PV1||I|2 West^1^1\r\
         OBR|1||{id}^PUMP_GATEWAY^0A0027FFFE000030^EUI-64|999999^Medication Unknown|||20260102030405+0000\r\
         OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||0A00A1FFFE000031^^0A00A1FFFE000031^EUI-64\r\
         OBX|2||70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC|1.1.0.0|||||||X\r\
         OBX|3||70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X\r\
         OBX|4|NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.1|12.50|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|||||R\r"
    )
}
