//! Messages out of a file. Everything that a message claims is held against what is there, and against the bounds, before
//! any of it is believed.

use std::{
    collections::HashMap,
    io::{self, BufRead, Read},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{Message, MessageHeader, Type, convert::try_fb_to_schema, reader::read_record_batch, root_as_message};
use arrow_schema::{DataType, Schema, SchemaRef};
use zstd::stream::read::Decoder;

use super::format::{ALIGNMENT, CHECKSUM_KEY, CONTINUATION, Checksum, MAX_BODY, MAX_METADATA, MAX_ROWS, MAX_WINDOW};

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
pub(super) struct Frames<R: BufRead> {
    input: Unpacked<R>,
    /// Batches read since the zstd frame began.
    batches: u32,
    checksum: Checksum,
    schema: SchemaRef,
}

/// A place before a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Byte of the file at which the zstd frame begins.
    pub(super) frame: u64,
    /// Batches to pass over in it.
    pub(super) batches: u32,
}

enum Found {
    Batch(Raw),
    End,
    Stopped,
}

struct Raw {
    metadata: Vec<u8>,
    body: Vec<u8>,
}

impl<R: BufRead> Frames<R> {
    /// Reads what a file begins with.
    pub(super) fn open(input: R) -> Result<Self, Damage> {
        let schema = Arc::new(Schema::empty());
        let input =
            Unpacked { frame: Some(Decoder::with_buffer(Counted { input, taken: 0 })?.single_frame()), began: 0 };
        let mut frames = Self { input, batches: 0, checksum: Checksum::default(), schema };
        let not_a_trace = || broken("is no trace: it does not begin like a compressed Arrow stream");
        let mut start = [0; 8];
        // zstd says of any other file that its frame is damaged.
        if !matches!(frames.fill_or_end(&mut start), Ok(8)) || start[..4] != CONTINUATION {
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

    /// Between which batches this is.
    pub(super) fn place(&self) -> Place {
        Place { frame: self.input.began, batches: self.batches }
    }

    /// Bytes of the file taken so far, to the block.
    pub(super) fn offset(&self) -> u64 {
        self.input.taken()
    }

    /// Passes over batches without looking into them.
    pub(super) fn skip(&mut self, batches: u32) -> Result<(), Damage> {
        while self.batches < batches {
            match self.next_raw()? {
                Found::Batch(_) => self.batches += 1,
                Found::End | Found::Stopped => return Err(Damage::Torn),
            }
        }
        Ok(())
    }

    /// The next batch.
    pub(super) fn next(&mut self) -> Result<Next, Damage> {
        let raw = match self.next_raw()? {
            Found::Batch(raw) => raw,
            Found::End => return Ok(Next::End),
            Found::Stopped => return Ok(Next::Stopped),
        };
        let batch = self.batch(raw)?;
        self.batches += 1;
        Ok(Next::Batch(batch))
    }

    /// The next batch as it is in the file.
    fn next_raw(&mut self) -> Result<Found, Damage> {
        loop {
            let mut start = [0; 8];
            let before = self.input.began;
            match self.fill_or_end(&mut start)? {
                0 => return Ok(Found::Stopped),
                8 => {}
                _ => return Err(Damage::Torn),
            }
            if self.input.began != before {
                self.batches = 0;
            }
            if start[..4] != CONTINUATION {
                return Err(broken("no message begins here"));
            }
            if start[4..] == [0; 4] {
                return Ok(Found::End);
            }
            let raw = self.message(start)?;
            if verify(&raw.metadata)?.header_type() == MessageHeader::RecordBatch {
                return Ok(Found::Batch(raw));
            }
            // A later minor version may know messages that this one does not.
        }
    }

    fn batch(&mut self, raw: Raw) -> Result<RecordBatch, Damage> {
        let Raw { metadata, body } = raw;
        let message = verify(&metadata)?;
        let batch = message.header_as_record_batch().ok_or_else(|| broken("a batch without a header"))?;
        let claimed = message.custom_metadata().into_iter().flatten().find(|pair| pair.key() == Some(CHECKSUM_KEY));
        let claimed = claimed.and_then(|pair| pair.value()?.parse::<u32>().ok());
        if claimed != Some(self.checksum.batch(&batch, &body)) && !believing() {
            return Err(broken("the checksum of a batch is wrong"));
        }
        check(&batch, &body, &self.schema)?;
        read_record_batch(
            &Buffer::from_vec(body),
            batch,
            Arc::clone(&self.schema),
            &HashMap::default(),
            None,
            &message.version(),
        )
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
        Ok(Raw { metadata, body })
    }

    /// As many bytes, which are only made room for as they come.
    fn take(&mut self, length: usize) -> Result<Vec<u8>, Damage> {
        let mut bytes = Vec::new();
        self.input.by_ref().take(length as u64).read_to_end(&mut bytes).map_err(unpacking)?;
        if bytes.len() == length { Ok(bytes) } else { Err(Damage::Torn) }
    }

    /// How many bytes there were before the file ended.
    fn fill_or_end(&mut self, into: &mut [u8]) -> Result<usize, Damage> {
        let mut filled = 0;
        while filled < into.len() {
            match self.input.read(&mut into[filled..]) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The file ends where a batch was flushed, without the frame's end.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(unpacking(error)),
            }
        }
        Ok(filled)
    }
}

impl<R: BufRead + io::Seek> Frames<R> {
    /// Goes to a place that [`Frames::place`] told, other than before the first batch.
    pub(super) fn seek(&mut self, to: Place) -> Result<(), Damage> {
        self.input.seek(to.frame)?;
        self.batches = 0;
        self.checksum = Checksum::default();
        self.skip(to.batches)?;
        self.checksum = Checksum::default();
        Ok(())
    }
}

/// zstd speaks of damaged data as of a failing file.
fn unpacking(error: io::Error) -> Damage {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Damage::Torn,
        _ if error.raw_os_error().is_some() => Damage::Io(error),
        _ => broken(format!("its compressed data are damaged ({error})")),
    }
}

/// One zstd frame after the other, as one stream.
struct Unpacked<R: BufRead> {
    /// None only while one is exchanged for the next.
    frame: Option<Decoder<'static, Counted<R>>>,
    /// Where it begins in the file.
    began: u64,
}

impl<R: BufRead> Unpacked<R> {
    fn taken(&self) -> u64 {
        self.frame.as_ref().map_or(self.began, |frame| frame.get_ref().taken)
    }

    fn next_frame(&mut self, input: Counted<R>) -> io::Result<()> {
        self.began = input.taken;
        let mut frame = Decoder::with_buffer(input)?.single_frame();
        frame.window_log_max(MAX_WINDOW)?;
        self.frame = Some(frame);
        Ok(())
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(frame) = &mut self.frame else { return Ok(0) };
            let read = frame.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            if frame.get_mut().fill_buf()?.is_empty() {
                return Ok(0);
            }
            if let Some(frame) = self.frame.take() {
                self.next_frame(frame.finish())?;
            }
        }
    }
}

impl<R: BufRead + io::Seek> Unpacked<R> {
    fn seek(&mut self, to: u64) -> io::Result<()> {
        if let Some(frame) = self.frame.take() {
            let mut input = frame.finish();
            input.input.seek(io::SeekFrom::Start(to))?;
            input.taken = to;
            self.next_frame(input)?;
        }
        Ok(())
    }
}

/// Counts what is taken.
struct Counted<R> {
    input: R,
    taken: u64,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.taken += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.input.consume(amount);
    }
}

/// Whether checksums are taken for right: what a fuzzer changes would else never come further than to them.
fn believing() -> bool {
    #[cfg(test)]
    if tests::BELIEVING.get() {
        return true;
    }
    cfg!(fuzzing)
}

fn verify(metadata: &[u8]) -> Result<Message<'_>, Damage> {
    root_as_message(metadata).map_err(|error| broken(format!("a message's metadata is damaged: {error}")))
}

/// Holds a batch's numbers against its body, the schema and the bounds: what arrow takes for granted.
fn check(batch: &arrow_ipc::RecordBatch<'_>, body: &[u8], schema: &Schema) -> Result<(), Damage> {
    let wrong = || broken("a batch's numbers do not fit together");
    let rows = usize::try_from(batch.length()).ok().filter(|rows| *rows <= MAX_ROWS).ok_or_else(wrong)?;
    if batch.compression().is_some() {
        return Err(broken("a batch is compressed by itself, which no trace's is"));
    }
    let mut nodes = batch.nodes().into_iter().flatten();
    let mut buffers = batch.buffers().into_iter().flatten();
    let mut views = batch.variadicBufferCounts().into_iter().flatten();
    // Bytes of the next buffer, whose elements have that width.
    let mut buffer = |width: usize| {
        let buffer = buffers.next()?;
        let (start, length) = (usize::try_from(buffer.offset()).ok()?, usize::try_from(buffer.length()).ok()?);
        body.get(start..start.checked_add(length)?)?;
        (start.is_multiple_of(ALIGNMENT) && length.is_multiple_of(width)).then_some(length)
    };
    let mut column = |width: usize, texts: bool| {
        let node = nodes.next().filter(|node| node.length() == batch.length())?;
        usize::try_from(node.null_count()).ok().filter(|nulls| *nulls <= rows)?;
        buffer(1)?;
        buffer(width).filter(|length| *length >= rows * width)?;
        let texts = if texts { views.next()? } else { 0 };
        (0..texts).try_for_each(|_| buffer(1).map(drop))
    };
    for field in schema.fields() {
        let texts = *field.data_type() == DataType::Utf8View;
        let width = if texts { size_of::<u128>() } else { field.data_type().primitive_width().unwrap_or(1) };
        column(width, texts).ok_or_else(wrong)?;
    }
    let left = nodes.next().is_some() || buffers.next().is_some() || views.next().is_some();
    if left { Err(wrong()) } else { Ok(()) }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// See [`super::believing`].
        pub(in super::super) static BELIEVING: Cell<bool> = const { Cell::new(false) };
    }
}
