//! Messages out of a file. Everything that a message claims is held against what is there, and against the bounds, before
//! any of it is believed.

use std::{
    io::{self, Read},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{
    CompressionType, Message, MessageHeader, Type, convert::try_fb_to_schema, reader::read_record_batch,
    root_as_message,
};
use arrow_schema::SchemaRef;

use super::format::{CHECKSUM_KEY, CONTINUATION, Checksum, MAX_BODY, MAX_METADATA, MAX_ROWS, MAX_UNPACKED};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It ends within a message.
    #[error("ends within a batch: what was being written when the recording ended is lost")]
    Torn,
    /// It is not what it should be.
    #[error("{0}")]
    Broken(String),
}

fn broken(what: impl Into<String>) -> Damage {
    Damage::Broken(what.into())
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    Batch(RecordBatch),
    /// The mark that ends a recording in good order.
    End,
    /// The file ends at the end of a message, but without that mark.
    Stopped,
}

/// The messages of a file.
pub(super) struct Frames<R> {
    input: R,
    /// Bytes taken of the file, up to the last whole message.
    offset: u64,
    checksum: Checksum,
    schema: SchemaRef,
}

struct Raw {
    metadata: Vec<u8>,
    body: Vec<u8>,
}

impl<R: Read> Frames<R> {
    /// Reads what a file begins with.
    pub(super) fn open(input: R) -> Result<Self, Damage> {
        let schema = Arc::new(arrow_schema::Schema::empty());
        let mut frames = Self { input, offset: 0, checksum: Checksum::default(), schema };
        let not_a_trace = || broken("is no trace: it does not begin like an Arrow stream");
        let mut start = [0; 8];
        frames.fill(&mut start).map_err(|damage| match damage {
            Damage::Torn => not_a_trace(),
            other => other,
        })?;
        if start[..4] != CONTINUATION {
            return Err(not_a_trace());
        }
        let raw = frames.message(start)?;
        let message = verify(&raw.metadata)?;
        let schema = message.header_as_schema().ok_or_else(not_a_trace)?;
        for field in schema.fields().into_iter().flatten() {
            let known = match field.type_type() {
                Type::Timestamp | Type::Utf8View => true,
                Type::Int => field.type_as_int().is_some_and(|int| matches!(int.bitWidth(), 8 | 16 | 32 | 64)),
                _ => false,
            };
            if !known || field.dictionary().is_some() || field.children().is_some_and(|children| !children.is_empty()) {
                return Err(broken("is no trace: it has a column of a type that no trace has"));
            }
        }
        frames.schema = Arc::new(try_fb_to_schema(schema).map_err(|error| broken(error.to_string()))?);
        Ok(frames)
    }

    /// With the metadata.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Where the next message begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next batch.
    pub(super) fn next(&mut self) -> Result<Next, Damage> {
        loop {
            let mut start = [0; 8];
            match self.fill_or_end(&mut start)? {
                0 => return Ok(Next::Stopped),
                8 => {}
                _ => return Err(Damage::Torn),
            }
            if start[..4] != CONTINUATION {
                return Err(broken("no message begins here"));
            }
            if start[4..] == [0; 4] {
                return Ok(Next::End);
            }
            let raw = self.message(start)?;
            let message = verify(&raw.metadata)?;
            if message.header_type() == MessageHeader::RecordBatch {
                return self.batch(&message, &raw).map(Next::Batch);
            }
            // A later minor version may know messages that this one does not.
        }
    }

    fn batch(&mut self, message: &Message<'_>, raw: &Raw) -> Result<RecordBatch, Damage> {
        let batch = message.header_as_record_batch().ok_or_else(|| broken("a batch without a header"))?;
        let claimed = message.custom_metadata().into_iter().flatten().find(|pair| pair.key() == Some(CHECKSUM_KEY));
        let claimed = claimed.and_then(|pair| pair.value()?.parse::<u32>().ok());
        if claimed != Some(self.checksum.batch(&batch, &raw.body)) {
            return Err(broken("the checksum of a batch is wrong"));
        }
        check(&batch, &raw.body, self.schema.fields().len())?;
        let body = Buffer::from(raw.body.as_slice());
        read_record_batch(&body, batch, Arc::clone(&self.schema), &Default::default(), None, &message.version())
            .map_err(|error| broken(format!("a batch cannot be read: {error}")))
    }

    /// The rest of a message that starts so.
    fn message(&mut self, start: [u8; 8]) -> Result<Raw, Damage> {
        let length = u32::from_le_bytes([start[4], start[5], start[6], start[7]]);
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_METADATA);
        let length = length.ok_or_else(|| broken("a message's metadata is longer than any can be"))?;
        let metadata = self.take(length)?;
        let message = verify(&metadata)?;
        let body = usize::try_from(message.bodyLength()).ok().filter(|length| *length <= MAX_BODY);
        let body = self.take(body.ok_or_else(|| broken("a message's body is longer than any can be"))?)?;
        if message.header_type() != MessageHeader::RecordBatch {
            self.checksum.take(&start);
            self.checksum.take(&metadata);
            self.checksum.take(&body);
        }
        self.offset += 8 + (metadata.len() + body.len()) as u64;
        Ok(Raw { metadata, body })
    }

    /// As many bytes, which are only made room for as they come.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, Damage> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() == length { Ok(bytes) } else { Err(Damage::Torn) }
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), Damage> {
        if self.fill_or_end(into)? == into.len() { Ok(()) } else { Err(Damage::Torn) }
    }

    /// How many bytes there were.
    fn fill_or_end(&mut self, into: &mut [u8]) -> Result<usize, Damage> {
        let mut filled = 0;
        while filled < into.len() {
            match self.input.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(filled)
    }
}

impl<R: Read + io::Seek> Frames<R> {
    /// Goes to a place that [`Frames::offset`] told, where a batch begins that is not the first.
    pub(super) fn seek(&mut self, offset: u64) -> Result<(), Damage> {
        self.input.seek(io::SeekFrom::Start(offset))?;
        self.offset = offset;
        self.checksum = Checksum::default();
        Ok(())
    }
}

fn verify(metadata: &[u8]) -> Result<Message<'_>, Damage> {
    root_as_message(metadata).map_err(|error| broken(format!("a message's metadata is damaged: {error}")))
}

/// Holds a batch's numbers against its body and the bounds: what arrow takes for granted.
fn check(batch: &arrow_ipc::RecordBatch<'_>, body: &[u8], columns: usize) -> Result<(), Damage> {
    let wrong = || broken("a batch's numbers do not fit together");
    let rows = usize::try_from(batch.length()).ok().filter(|rows| *rows <= MAX_ROWS).ok_or_else(wrong)?;
    let mut nodes = 0;
    for node in batch.nodes().into_iter().flatten() {
        nodes += 1;
        let nulls = usize::try_from(node.null_count()).ok();
        if node.length() != batch.length() || nulls.is_none_or(|nulls| nulls > rows) {
            return Err(wrong());
        }
    }
    if nodes != columns {
        return Err(wrong());
    }
    let packed = match batch.compression() {
        Some(compression) if compression.codec() == CompressionType::ZSTD => true,
        Some(_) => return Err(broken("a batch is packed in a way that no trace is")),
        None => false,
    };
    let mut unpacked = 0_usize;
    for buffer in batch.buffers().into_iter().flatten() {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let range = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let bytes = range.and_then(|range| body.get(range)).ok_or_else(wrong)?;
        unpacked += match bytes.first_chunk::<8>() {
            Some(prefix) if packed => match i64::from_le_bytes(*prefix) {
                // Not packed, as it would have become longer.
                -1 => bytes.len(),
                length => usize::try_from(length).ok().filter(|length| *length <= MAX_UNPACKED).ok_or_else(wrong)?,
            },
            None if packed && !bytes.is_empty() => return Err(wrong()),
            _ => bytes.len(),
        };
        if unpacked > MAX_UNPACKED {
            return Err(broken("a batch is larger than any can be"));
        }
    }
    for count in batch.variadicBufferCounts().into_iter().flatten() {
        if !(0..=64).contains(&count) {
            return Err(wrong());
        }
    }
    Ok(())
}
