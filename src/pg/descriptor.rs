//! The columns of a table or of a composite type, as the server describes rows (access/tupdesc.h).

use std::marker::PhantomData;

use pgrx::pg_sys;

use super::storage::Storage;
use super::sys::versions;
use super::text;
use super::type_id::TypeId;

/// A descriptor of rows.
#[derive(Clone, Copy)]
pub struct Descriptor<'a> {
    descriptor: pg_sys::TupleDesc,
    lives: PhantomData<&'a ()>,
}

/// One column.
#[derive(Clone, Copy)]
pub struct Attribute<'a> {
    /// Which one it is, dropped ones counted, from 0.
    pub number: usize,
    form: &'a pg_sys::FormData_pg_attribute,
}

impl<'a> Descriptor<'a> {
    /// # Safety
    ///
    /// `descriptor` lives for `'a`.
    pub(super) unsafe fn new(descriptor: pg_sys::TupleDesc) -> Descriptor<'a> {
        Descriptor { descriptor, lives: PhantomData }
    }

    /// All columns, dropped ones included.
    pub fn attributes(self) -> impl ExactSizeIterator<Item = Attribute<'a>> {
        let descriptor = self.descriptor;
        // SAFETY: the descriptor is there for 'a.
        let count = unsafe { (*descriptor).natts.max(0) as usize };
        (0..count).map(move |number| {
            // SAFETY: the descriptor is there for 'a, and has as many attributes as it says.
            let form = unsafe { versions::attribute(descriptor, number) };
            Attribute { number, form }
        })
    }
}

impl Attribute<'_> {
    /// Its name.
    pub fn name(&self) -> String {
        // SAFETY: a NameData is NUL-terminated.
        unsafe { text::c_to_utf8(self.form.attname.data.as_ptr()) }
    }

    /// The type of its values.
    pub fn type_id(&self) -> TypeId {
        TypeId(self.form.atttypid)
    }

    /// How its values are stored.
    pub fn storage(&self) -> Storage {
        Storage::new(self.form.attlen, self.form.attbyval, self.form.attalign)
    }

    /// Returns whether it was dropped.
    pub fn is_dropped(&self) -> bool {
        self.form.attisdropped
    }

    /// Returns whether it has a value that a trigger can see.
    pub fn is_there(&self) -> bool {
        is_there(self.form)
    }
}

/// Returns whether a column has a value that a trigger can see. Virtual generated columns, which 18 brought,
/// are not computed there (trigger.sgml).
pub(super) fn is_there(attribute: &pg_sys::FormData_pg_attribute) -> bool {
    const GENERATED_VIRTUAL: u8 = b'v';
    !attribute.attisdropped && attribute.attgenerated as u8 != GENERATED_VIRTUAL
}
