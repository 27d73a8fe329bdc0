//! The folder of CSV tables, read once a load, each table when first named. A file `NAME+anything.csv` adds rows to `NAME.csv`.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Fault, reader::nearest, source::Problem};
use crate::{
    pcd::{Nomenclature, whole_table},
    translate::table::{Table, TableFault},
};

/// Tables that overlay the nomenclature, where they are in the folder.
const NOMENCLATURE: [&str; 4] = ["mdc-terms.csv", "mdc-units.csv", "mdc-loinc.csv", "pcd-profiles.csv"];

/// The tables of one load.
pub(super) struct Tables {
    folder: PathBuf,
    names: Vec<String>,
    read: RefCell<BTreeMap<String, Option<Named>>>,
    nomenclature: RefCell<Option<Option<Codes>>>,
    faults: RefCell<Vec<Fault>>,
}

/// A table and its bytes, of which the channel's hash is made.
#[derive(Clone)]
pub(super) struct Named {
    pub table: Arc<Table>,
    pub bytes: Arc<[u8]>,
}

/// The nomenclature and the bytes that overlay it.
#[derive(Clone)]
pub(super) struct Codes {
    pub nomenclature: Arc<Nomenclature>,
    pub bytes: Arc<[u8]>,
}

impl Tables {
    /// The tables in `folder`; a folder that is not there has none.
    pub fn open(folder: &Path) -> Tables {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name.ends_with(".csv"));
        names.sort();
        Tables {
            folder: folder.to_owned(),
            names,
            read: RefCell::default(),
            nomenclature: RefCell::default(),
            faults: RefCell::default(),
        }
    }

    /// The table of that file name. `Ok(None)`: it is faulty, which its own faults say.
    pub fn table(&self, name: &str) -> Result<Option<Named>, Problem> {
        if !self.names.iter().any(|known| known == name) {
            let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let what = format!("there is no table {name:?} in {}", self.folder.display());
            return Err(Problem::new(what, nearest(name, &known)));
        }
        let mut read = self.read.borrow_mut();
        Ok(read.entry(name.to_owned()).or_insert_with(|| self.read_table(name)).clone())
    }

    /// The built-in codes overlaid by the folder's tables; `None`: one of those is faulty.
    pub fn nomenclature(&self) -> Option<Codes> {
        self.nomenclature.borrow_mut().get_or_insert_with(|| self.read_nomenclature()).clone()
    }

    /// Faults found in tables.
    pub fn into_faults(self) -> Vec<Fault> {
        self.faults.into_inner()
    }

    fn read_table(&self, name: &str) -> Option<Named> {
        let (mut whole, mut hashed) = self.read_one(name)?;
        for more in self.additions(name) {
            let (rows, bytes) = self.read_one(more)?;
            whole = self.sound(more, whole.with(rows))?;
            hashed = [&*hashed, &*bytes].concat().into();
        }
        Some(Named { table: Arc::new(whole), bytes: hashed })
    }

    fn read_one(&self, name: &str) -> Option<(Table, Arc<[u8]>)> {
        let bytes = self.bytes(name)?;
        Some((self.sound(name, Table::read(name, &bytes))?, bytes))
    }

    fn sound(&self, name: &str, read: Result<Table, Vec<TableFault>>) -> Option<Table> {
        let fault = |faults: Vec<TableFault>| {
            faults.into_iter().for_each(|fault| self.fault(name, fault.line, &fault.what));
        };
        read.map_err(fault).ok()
    }

    /// Files that add to this table: `NAME+anything.csv` to `NAME.csv`, in the order of their names.
    fn additions(&self, name: &str) -> impl Iterator<Item = &String> {
        self.names.iter().filter(move |other| *other != name && whole_table(other) == name)
    }

    fn read_nomenclature(&self) -> Option<Codes> {
        let mut files = Vec::new();
        for table in NOMENCLATURE {
            for name in self.names.iter().filter(|name| *name == table).chain(self.additions(table)) {
                files.push((name, self.bytes(name)?));
            }
        }
        let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (&***name, &bytes[..])).collect();
        match Nomenclature::with_files(&borrowed) {
            Ok(nomenclature) => {
                Some(Codes { nomenclature, bytes: borrowed.iter().flat_map(|(_, b)| *b).copied().collect() })
            }
            Err(faults) => {
                faults.into_iter().for_each(|(name, line, what)| self.fault(&name, line, &what));
                None
            }
        }
    }

    fn bytes(&self, name: &str) -> Option<Arc<[u8]>> {
        let read = fs::read(self.folder.join(name));
        read.map_err(|error| self.fault(name, 1, &format!("the table cannot be read: {error}"))).ok().map(Arc::from)
    }

    fn fault(&self, name: &str, line: u64, what: &str) {
        let (what, remedy) = what.rsplit_once(": ").unwrap_or((what, "mend the line"));
        self.faults.borrow_mut().push(Fault {
            file: self.folder.join(name),
            line: usize::try_from(line).unwrap_or_default().max(1),
            column: 1,
            what: what.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
}
