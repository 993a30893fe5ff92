//! The columns of a trace: one wide table, whose rows each fill what their kind has to say.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    Array, ArrayRef, RecordBatch, StringViewArray, TimestampNanosecondArray,
    types::{ArrowPrimitiveType, Int64Type, TimestampNanosecondType, UInt16Type, UInt32Type, UInt64Type},
};
use arrow_buffer::{Buffer, NullBuffer, NullBufferBuilder, ScalarBuffer};
use arrow_schema::{DataType, Field, TimeUnit};

/// What a column holds. All but the time may be null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A point in time: nanoseconds since the Unix epoch, UTC.
    Moment,
    /// A signed number of 64 bits.
    I64,
    /// A number of 16 bits.
    U16,
    /// A number of 32 bits.
    U32,
    /// A number of 64 bits.
    U64,
    /// Text.
    Text,
}

impl Type {
    fn arrow(self) -> DataType {
        match self {
            Self::Moment => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            Self::I64 => DataType::Int64,
            Self::U16 => DataType::UInt16,
            Self::U32 => DataType::UInt32,
            Self::U64 => DataType::UInt64,
            Self::Text => DataType::Utf8View,
        }
    }
}

/// A column of the table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub holds: Type,
    /// What that means.
    pub doc: &'static str,
}

impl Column {
    /// As Arrow calls it.
    pub(super) fn field(&self) -> Field {
        Field::new(self.name, self.holds.arrow(), true)
    }
}

macro_rules! columns {
    ($($name:ident: $holds:ident, $doc:literal;)*) => {
        /// All columns, in the order in which they are written.
        pub const COLUMNS: &[Column] = &[$(Column { name: stringify!($name), holds: Type::$holds, doc: $doc }),*];

        /// Rows on their way into a batch.
        pub(super) struct Filling {
            $(pub(super) $name: fill::$holds,)*
        }

        impl Filling {
            /// With room for that many rows.
            pub(super) fn of(rows: usize) -> Self {
                Self { $($name: fill::$holds::of(rows),)* }
            }

            /// The arrays of that many rows, in the order of [`COLUMNS`].
            pub(super) fn finish(self, rows: usize) -> Vec<ArrayRef> {
                vec![$(self.$name.finish(rows)),*]
            }
        }

        /// Rows of a batch that was read.
        pub(super) struct Filled<'a> {
            $(pub(super) $name: filled::$holds<'a>,)*
        }

        impl<'a> Filled<'a> {
            /// Columns that are not there read as null; those that hold something else are an error, with their name.
            pub(super) fn of(batch: &'a RecordBatch) -> Result<Self, &'static str> {
                Ok(Self { $($name: filled::$holds::of(column(batch, stringify!($name), Type::$holds)?),)* })
            }
        }
    };
}

fn column<'a>(batch: &'a RecordBatch, name: &'static str, holds: Type) -> Result<Option<&'a ArrayRef>, &'static str> {
    match batch.column_by_name(name) {
        Some(array) if *array.data_type() != holds.arrow() => Err(name),
        found => Ok(found),
    }
}

columns! {
    time: Moment, "When it happened, by the kernel's clock, on the wall clock as it stood when the recording began.";
    kind: Text, "What the row is. Within a batch the rows are grouped by it.";
    seq: U32, "The row's place in its batch, from 0: the order in which observer learned of it.";
    netns: U32, "Network namespace, by inode number.";
    local_ip: Text, "Address of the socket's own end: the proxy's for its tries, the listener's for what happens at a listener.";
    local_port: U16, "Its port.";
    remote_ip: Text, "Address of the other end: the upstream's for a proxy's tries.";
    remote_port: U16, "Its port.";
    path: Text, "Of a unix socket, in place of an address.";
    pid: U32, "The process that it concerns: the proxy for its tries.";
    comm: Text, "Its name, control characters escaped.";
    what: Text, "Which of the things that its kind can say (see the kinds).";
    state_before: Text, "TCP state before, by the kernel's name.";
    state: Text, "TCP state, by the kernel's name.";
    error: U16, "errno: sk_err of a connection, or what connect() failed with.";
    flags: U32, "Bits, see the flags.";
    bytes_sent: U64, "Payload bytes sent.";
    bytes_acked: U64, "Payload bytes sent that the other kernel has acknowledged.";
    bytes_received: U64, "Payload bytes received.";
    unacked: U32, "Bytes written and not acknowledged.";
    unread: U32, "Bytes received that nobody read.";
    written: U32, "Bytes that the proxy wrote since it last read.";
    segments_out: U32, "Segments with payload sent.";
    since_start_ns: I64, "From connect() to now.";
    since_established_ns: I64, "From the end of the handshake to now.";
    since_sent_ns: I64, "Since payload was last sent, to the jiffy.";
    since_received_ns: I64, "Since payload last came, to the jiffy.";
    since_read_ns: I64, "Since the proxy last read.";
    since_told_ns: I64, "Since the row that told how the try ended which this answer is about.";
    syn_retransmits: U16, "SYNs sent again.";
    data_retransmits: U16, "Other segments sent again.";
    exchanges: U32, "Answers begun on the connection since observer's start.";
    depth: U32, "Connections in the queue.";
    limit: U32, "The queue's limit.";
    status: U16, "HTTP status that the proxy gave its client; of a verdict, the one that the client got or most likely got.";
    upstream_status: U16, "HTTP status of the upstream's last answer whose head was read.";
    client_ip: Text, "Address of the proxy's client.";
    client_port: U16, "Its port.";
    cause: Text, "Of a verdict or a warning: its cause (observer explain).";
    confidence: Text, "Of a verdict: possible, likely or certain.";
    because: Text, "Of a verdict: what lies under it.";
    detail: Text, "JSON: whatever else its kind has to say.";
}

/// Columns while they are filled: rows without a value cost nothing until one with a value comes.
mod fill {
    use std::ops::Range;

    use super::{
        Arc, ArrayRef, ArrowPrimitiveType, Buffer, DataType, HashMap, Int64Type, NullBufferBuilder, ScalarBuffer,
        StringViewArray, TimestampNanosecondArray, UInt16Type, UInt32Type, UInt64Type,
    };
    use arrow_array::{PrimitiveArray, builder::make_view};

    pub(in super::super) struct Primitive<T: ArrowPrimitiveType> {
        values: Vec<T::Native>,
        nulls: NullBufferBuilder,
    }

    impl<T: ArrowPrimitiveType> Primitive<T> {
        pub(super) fn of(rows: usize) -> Self {
            Self { values: Vec::with_capacity(rows), nulls: NullBufferBuilder::new(rows) }
        }

        /// Gives a row its value; rows come in order.
        pub(in super::super) fn set(&mut self, row: usize, value: T::Native) {
            self.skip_to(row);
            self.values.push(value);
            self.nulls.append_non_null();
        }

        /// The same if there is a value.
        pub(in super::super) fn maybe(&mut self, row: usize, value: Option<T::Native>) {
            if let Some(value) = value {
                self.set(row, value);
            }
        }

        fn skip_to(&mut self, row: usize) {
            self.nulls.append_n_nulls(row - self.values.len());
            self.values.resize(row, T::Native::default());
        }

        fn array(mut self, rows: usize) -> PrimitiveArray<T> {
            self.skip_to(rows);
            PrimitiveArray::new(ScalarBuffer::from(self.values), self.nulls.finish())
        }
    }

    macro_rules! primitives {
        ($($name:ident = $type:ident),*) => {$(
            pub(in super::super) type $name = Primitive<$type>;

            impl $name {
                pub(super) fn finish(self, rows: usize) -> ArrayRef {
                    Arc::new(self.array(rows))
                }
            }
        )*};
    }

    primitives!(I64 = Int64Type, U16 = UInt16Type, U32 = UInt32Type, U64 = UInt64Type);

    /// See [`super::Type::Moment`].
    pub(in super::super) struct Moment(Primitive<super::TimestampNanosecondType>);

    impl Moment {
        pub(super) fn of(rows: usize) -> Self {
            Self(Primitive::of(rows))
        }

        pub(in super::super) fn set(&mut self, row: usize, value: i64) {
            self.0.set(row, value);
        }

        pub(super) fn finish(self, rows: usize) -> ArrayRef {
            let array: TimestampNanosecondArray = self.0.array(rows);
            Arc::new(array.with_timezone("UTC"))
        }
    }

    /// Bytes that a view holds in place (Arrow columnar format, "variable-size binary view layout").
    const IN_PLACE: usize = 12;

    /// Text as views: sixteen bytes a row, the same for the same text, which compresses to next to nothing.
    pub(in super::super) struct Text {
        views: Vec<u128>,
        nulls: NullBufferBuilder,
        long: Vec<u8>,
        known: HashMap<String, u128>,
        /// The last row's, if it was long: mostly the next is the same.
        last: Option<(Range<usize>, u128)>,
    }

    impl Text {
        pub(super) fn of(rows: usize) -> Self {
            Self {
                views: Vec::with_capacity(rows),
                nulls: NullBufferBuilder::new(rows),
                long: Vec::new(),
                known: HashMap::new(),
                last: None,
            }
        }

        pub(in super::super) fn set(&mut self, row: usize, text: &str) {
            self.skip_to(row);
            let view = self.view(text);
            self.views.push(view);
            self.nulls.append_non_null();
        }

        pub(in super::super) fn maybe(&mut self, row: usize, text: Option<&str>) {
            if let Some(text) = text {
                self.set(row, text);
            }
        }

        fn view(&mut self, text: &str) -> u128 {
            if text.len() <= IN_PLACE {
                return make_view(text.as_bytes(), 0, 0);
            }
            if let Some((place, view)) = &self.last
                && self.long[place.clone()] == *text.as_bytes()
            {
                return *view;
            }
            if let Some(view) = self.known.get(text) {
                return *view;
            }
            let begin = self.long.len();
            let view = make_view(text.as_bytes(), 0, u32::try_from(begin).unwrap_or(u32::MAX));
            self.long.extend_from_slice(text.as_bytes());
            self.known.insert(text.to_owned(), view);
            self.last = Some((begin..self.long.len(), view));
            view
        }

        fn skip_to(&mut self, row: usize) {
            self.nulls.append_n_nulls(row - self.views.len());
            self.views.resize(row, 0);
        }

        pub(super) fn finish(mut self, rows: usize) -> ArrayRef {
            debug_assert_eq!(DataType::Utf8View, super::Type::Text.arrow());
            self.skip_to(rows);
            let long = if self.long.is_empty() { Vec::new() } else { vec![Buffer::from(self.long)] };
            Arc::new(StringViewArray::new(ScalarBuffer::from(self.views), long, self.nulls.finish()))
        }
    }
}

/// Columns that were read.
pub(super) mod filled {
    use arrow_array::cast::AsArray as _;

    use super::{
        Array as _, ArrayRef, ArrowPrimitiveType, Int64Type, NullBuffer, StringViewArray, TimestampNanosecondType,
        UInt16Type, UInt32Type, UInt64Type,
    };

    pub(in super::super) struct Primitive<'a, T: ArrowPrimitiveType> {
        values: &'a [T::Native],
        nulls: Option<&'a NullBuffer>,
    }

    impl<'a, T: ArrowPrimitiveType> Primitive<'a, T> {
        pub(super) fn of(array: Option<&'a ArrayRef>) -> Self {
            match array.map(ArrayRef::as_primitive::<T>) {
                Some(array) => Self { values: array.values(), nulls: array.nulls() },
                None => Self { values: &[], nulls: None },
            }
        }

        pub(in super::super) fn get(&self, row: usize) -> Option<T::Native> {
            let value = self.values.get(row)?;
            self.nulls.is_none_or(|nulls| nulls.is_valid(row)).then_some(*value)
        }

        /// Zero where there is none.
        pub(in super::super) fn or_zero(&self, row: usize) -> T::Native {
            self.get(row).unwrap_or_default()
        }
    }

    pub(in super::super) type Moment<'a> = Primitive<'a, TimestampNanosecondType>;
    pub(in super::super) type I64<'a> = Primitive<'a, Int64Type>;
    pub(in super::super) type U16<'a> = Primitive<'a, UInt16Type>;
    pub(in super::super) type U32<'a> = Primitive<'a, UInt32Type>;
    pub(in super::super) type U64<'a> = Primitive<'a, UInt64Type>;

    pub(in super::super) struct Text<'a>(Option<&'a StringViewArray>);

    impl<'a> Text<'a> {
        pub(super) fn of(array: Option<&'a ArrayRef>) -> Self {
            Self(array.map(ArrayRef::as_string_view))
        }

        pub(in super::super) fn get(&self, row: usize) -> Option<&'a str> {
            self.0.filter(|array| array.is_valid(row)).map(|array| array.value(row))
        }

        /// Two rows of a batch whose views are equal have the same text.
        pub(in super::super) fn view(&self, row: usize) -> Option<u128> {
            self.0.filter(|array| array.is_valid(row)).map(|array| array.views()[row])
        }
    }
}
