//! Tables and arrays of values with types: headers of messages, arguments, properties of a peer (AMQP 0-9-1,
//! 4.2.5.5, with the letters that RabbitMQ has for the types: <https://www.rabbitmq.com/amqp-0-9-1-errata>).
//!
//! A table stays what it was on the wire. It is looked into when somebody asks, one level at a time: nothing
//! here recurses, and what a table holds that nobody looks at cannot do harm.

use std::fmt;

use crate::bytes::{
    Malformed, Reader, put_long, put_short, put_short_bytes, put_u16, put_u32, put_u64,
};
use crate::text::Text;

/// A value in a table.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "they are named as their types")]
pub enum Value<'a> {
    Boolean(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    F32(f32),
    F64(f64),
    /// `unscaled` divided by 10 to the power of `scale`. Some clients take the 32 bits as signed.
    Decimal {
        scale: u8,
        unscaled: u32,
    },
    /// A long string.
    Text(Text<'a>),
    Bytes(&'a [u8]),
    /// Seconds since 1970.
    Timestamp(u64),
    Array(Array<'a>),
    Table(Table<'a>),
    Void,
}

/// Fields with names. In the order in which they were sent; a name can be there twice.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Table<'a>(&'a [u8]);

/// Values without names.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Array<'a>(&'a [u8]);

/// The bytes of a table or an array are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTable;

impl fmt::Display for BadTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no table of AMQP 0-9-1")
    }
}

impl std::error::Error for BadTable {}

impl<'a> Table<'a> {
    /// A table without fields.
    pub const EMPTY: Table<'static> = Table(&[]);

    /// A table of these bytes, without the size that stands before them on the wire.
    pub fn from_bytes(bytes: &'a [u8]) -> Table<'a> {
        Table(bytes)
    }

    /// The bytes, without the size.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether it has no fields.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The fields, ending with an error where they are none.
    pub fn fields(self) -> Fields<'a> {
        Fields(Reader::new(self.0))
    }

    /// The first field of this name.
    ///
    /// # Errors
    ///
    /// If the table is none, as far as it had to be looked through.
    pub fn get(self, name: &str) -> Result<Option<Value<'a>>, BadTable> {
        for field in self.fields() {
            let (found, value) = field?;
            if found == name {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

impl<'a> Array<'a> {
    /// An array of these bytes, without the size that stands before them on the wire.
    pub fn from_bytes(bytes: &'a [u8]) -> Array<'a> {
        Array(bytes)
    }

    /// The bytes, without the size.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The values, ending with an error where they are none.
    pub fn values(self) -> Values<'a> {
        Values(Reader::new(self.0))
    }
}

// How deep a table goes its sender decides: these do not follow.
impl fmt::Debug for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table(\"{}\")", self.0.escape_ascii())
    }
}

impl fmt::Debug for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array(\"{}\")", self.0.escape_ascii())
    }
}

/// [`Table::fields`].
#[derive(Clone, Copy)]
pub struct Fields<'a>(Reader<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(Text<'a>, Value<'a>), BadTable>;

    fn next(&mut self) -> Option<Self::Item> {
        next(&mut self.0, |reader| Ok((reader.short()?, value(reader)?)))
    }
}

/// [`Array::values`].
#[derive(Clone, Copy)]
pub struct Values<'a>(Reader<'a>);

impl<'a> Iterator for Values<'a> {
    type Item = Result<Value<'a>, BadTable>;

    fn next(&mut self) -> Option<Self::Item> {
        next(&mut self.0, value)
    }
}

/// What comes next; nothing after an error.
fn next<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Option<Result<T, BadTable>> {
    if reader.is_empty() {
        return None;
    }
    Some(read(reader).map_err(|Malformed| {
        *reader = Reader::new(&[]);
        BadTable
    }))
}

fn value<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, Malformed> {
    Ok(match reader.u8()? {
        b't' => Value::Boolean(reader.u8()? != 0),
        b'b' => Value::I8(i8::from_be_bytes(reader.array()?)),
        b'B' => Value::U8(reader.u8()?),
        // The specification's letter, and RabbitMQ's.
        b'U' | b's' => Value::I16(i16::from_be_bytes(reader.array()?)),
        b'u' => Value::U16(reader.u16()?),
        b'I' => Value::I32(i32::from_be_bytes(reader.array()?)),
        b'i' => Value::U32(reader.u32()?),
        b'L' | b'l' => Value::I64(i64::from_be_bytes(reader.array()?)),
        b'f' => Value::F32(f32::from_be_bytes(reader.array()?)),
        b'd' => Value::F64(f64::from_be_bytes(reader.array()?)),
        b'D' => Value::Decimal { scale: reader.u8()?, unscaled: reader.u32()? },
        b'S' => Value::Text(Text::new(reader.long()?)),
        b'x' => Value::Bytes(reader.long()?),
        b'T' => Value::Timestamp(reader.u64()?),
        b'A' => Value::Array(Array(reader.long()?)),
        b'F' => Value::Table(Table(reader.long()?)),
        b'V' => Value::Void,
        _ => return Err(Malformed),
    })
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    match value {
        Value::Boolean(boolean) => out.extend_from_slice(&[b't', u8::from(boolean)]),
        Value::I8(number) => out.extend_from_slice(&[b'b', number as u8]),
        Value::U8(number) => out.extend_from_slice(&[b'B', number]),
        Value::I16(number) => {
            out.push(b's');
            put_u16(out, number as u16);
        }
        Value::U16(number) => {
            out.push(b'u');
            put_u16(out, number);
        }
        Value::I32(number) => {
            out.push(b'I');
            put_u32(out, number as u32);
        }
        Value::U32(number) => {
            out.push(b'i');
            put_u32(out, number);
        }
        Value::I64(number) => {
            out.push(b'l');
            put_u64(out, number as u64);
        }
        Value::F32(number) => {
            out.push(b'f');
            put_u32(out, number.to_bits());
        }
        Value::F64(number) => {
            out.push(b'd');
            put_u64(out, number.to_bits());
        }
        Value::Decimal { scale, unscaled } => {
            out.extend_from_slice(&[b'D', scale]);
            put_u32(out, unscaled);
        }
        Value::Text(text) => {
            out.push(b'S');
            put_long(out, text.as_bytes());
        }
        Value::Bytes(bytes) => {
            out.push(b'x');
            put_long(out, bytes);
        }
        Value::Timestamp(seconds) => {
            out.push(b'T');
            put_u64(out, seconds);
        }
        Value::Array(Array(bytes)) => {
            out.push(b'A');
            put_long(out, bytes);
        }
        Value::Table(Table(bytes)) => {
            out.push(b'F');
            put_long(out, bytes);
        }
        Value::Void => out.push(b'V'),
    }
}

/// A table that is being made. Cleared and used again it takes no memory for the next one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct TableBuf(Vec<u8>);

impl TableBuf {
    /// A table without fields.
    pub fn new() -> TableBuf {
        TableBuf::default()
    }

    /// Adds a field. A name that is too long is cut off.
    pub fn put(&mut self, name: &str, value: Value<'_>) -> &mut TableBuf {
        put_short(&mut self.0, name);
        put_value(&mut self.0, value);
        self
    }

    /// Adds a field whose name need not be UTF-8.
    pub fn put_bytes(&mut self, name: &[u8], value: Value<'_>) -> &mut TableBuf {
        put_short_bytes(&mut self.0, name);
        put_value(&mut self.0, value);
        self
    }

    /// Adds a text.
    pub fn put_text(&mut self, name: &str, text: &str) -> &mut TableBuf {
        self.put(name, Value::Text(text.into()))
    }

    /// Adds the fields of another table.
    pub fn append(&mut self, table: Table<'_>) -> &mut TableBuf {
        self.0.extend_from_slice(table.0);
        self
    }

    /// Takes all fields out.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The table.
    pub fn as_table(&self) -> Table<'_> {
        Table(&self.0)
    }
}

impl fmt::Debug for TableBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_table().fmt(f)
    }
}

/// An array that is being made.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ArrayBuf(Vec<u8>);

impl ArrayBuf {
    /// An array without values.
    pub fn new() -> ArrayBuf {
        ArrayBuf::default()
    }

    /// Adds a value.
    pub fn put(&mut self, value: Value<'_>) -> &mut ArrayBuf {
        put_value(&mut self.0, value);
        self
    }

    /// The array.
    pub fn as_array(&self) -> Array<'_> {
        Array(&self.0)
    }
}
