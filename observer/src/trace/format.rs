//! The bytes of a trace: messages of an Arrow IPC stream, each batch with a checksum in its metadata that other readers pass
//! over, and all of it compressed by zstd as one stream, flushed after each batch. Compressed buffer by buffer, as Arrow
//! itself can, what is the same in every batch would be written again with each: at a hundred events a second that is ten times
//! as much as the events. Bounds of what is written and read are here.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    sync::Arc,
};

use arrow_array::RecordBatch;
use arrow_ipc::{
    Buffer, FieldNode, KeyValue, KeyValueArgs, Message, MessageArgs, MessageHeader, MetadataVersion, root_as_message,
    writer::{DictionaryTracker, EncodedData, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, write_message},
};
use arrow_schema::{ArrowError, Schema, SchemaRef};
use flatbuffers::FlatBufferBuilder;

use super::{About, columns::COLUMNS};

/// Version of the format. Within one, columns (of the types that there are), kinds, words, bits and keys may be added; none
/// changes its meaning or goes away. A reader passes over what it does not know.
pub const VERSION: u32 = 1;

/// Key of the version in the stream's metadata; by itself, so that it can be read whatever the rest has become.
pub(super) const VERSION_KEY: &str = "observer.format";
/// Key of the self-description, as JSON.
pub(super) const ABOUT_KEY: &str = "observer.about";
/// Key of a batch's checksum: CRC-32 (ISO-HDLC) of what [`Checksum`] takes in, in decimal digits.
pub(super) const CHECKSUM_KEY: &str = "observer.crc32";

/// Rows of a batch.
pub const MAX_ROWS: usize = 65_536;
/// Bytes of a message's metadata.
pub const MAX_METADATA: usize = 1 << 20;
/// Bytes of a message's body: no reader ever takes more memory than this for what a file claims.
pub const MAX_BODY: usize = 64 << 20;
/// zstd's window, as a power of two, that a reader makes room for: what level 19 uses (ZSTD_defaultCParameters).
pub(super) const MAX_WINDOW: u32 = 23;
/// Batches after which a new zstd frame begins: where a reader can set in.
const FRAME_BATCHES: u32 = 64;
/// zstd's levels for batches that come once a second, and for those that come as fast as they fill up. The high one saves a
/// fifth and costs five times as much, of which there is plenty while little happens.
const LEVELS: (i32, i32) = (9, 2);
/// Rows of a batch from which on it counts as the latter.
const BUSY_ROWS: usize = 2_000;

/// What starts every message of the format (Arrow columnar format, "encapsulated message format").
pub(super) const CONTINUATION: [u8; 4] = [0xff; 4];
/// A message of no length ends the stream.
pub(super) const END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
/// Everything is padded to this at least.
pub(super) const ALIGNMENT: usize = 8;
/// What is written is padded to this: so that text, whose views are that long, is read in place.
const PADDING: usize = 16;

/// The checksum of a batch: over all bytes since the batch before, and over its numbers and body. Its metadata's own bytes
/// cannot be in it, as it is among them.
#[derive(Clone, Default)]
pub(super) struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// A message that is no batch, or what starts a stream.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum with this batch, and a new one begins.
    pub(super) fn batch(&mut self, batch: &arrow_ipc::RecordBatch<'_>, body: &[u8]) -> u32 {
        let mut number = |number: i64| self.0.update(&number.to_le_bytes());
        number(batch.length());
        for node in batch.nodes().into_iter().flatten() {
            number(node.length());
            number(node.null_count());
        }
        for buffer in batch.buffers().into_iter().flatten() {
            number(buffer.offset());
            number(buffer.length());
        }
        for count in batch.variadicBufferCounts().into_iter().flatten() {
            number(count);
        }
        self.0.update(body);
        std::mem::take(&mut self.0).finalize()
    }
}

/// The schema of all traces of this version, without metadata.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(COLUMNS.iter().map(super::columns::Column::field).collect::<Vec<_>>()))
}

/// How a batch can fail to be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// By Arrow.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// By zstd.
    #[error("zstd: {0}")]
    Zstd(#[from] io::Error),
}

/// Turns a self-description and batches into bytes.
pub(super) struct Encoder {
    /// The level that was asked for, or none: then it goes by how much there is.
    asked: Option<i32>,
    /// That of the frame.
    level: i32,
    options: IpcWriteOptions,
    context: IpcWriteContext,
    dictionaries: DictionaryTracker,
    checksum: Checksum,
    frame: zstd::stream::write::Encoder<'static, Vec<u8>>,
    /// Batches in the frame.
    batches: u32,
}

impl Encoder {
    /// `asked` is zstd's level, 1 to 19.
    pub(super) fn new(asked: Option<i32>) -> Result<Self, EncodeError> {
        let level = asked.unwrap_or(LEVELS.0);
        Ok(Self {
            asked,
            level,
            options: IpcWriteOptions::try_new(PADDING, false, MetadataVersion::V5)?,
            context: IpcWriteContext::default(),
            dictionaries: DictionaryTracker::new(true),
            checksum: Checksum::default(),
            frame: zstd::stream::write::Encoder::new(Vec::new(), level)?,
            batches: 0,
        })
    }

    /// What a file begins with.
    pub(super) fn begin(&mut self, about: &About) -> Result<Vec<u8>, EncodeError> {
        let json = serde_json::to_string(about).map_err(|error| ArrowError::JsonError(error.to_string()))?;
        let metadata = HashMap::from([(VERSION_KEY.to_owned(), VERSION.to_string()), (ABOUT_KEY.to_owned(), json)]);
        let schema = Schema::new_with_metadata(schema().fields().clone(), metadata);
        let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
            &schema,
            &mut self.dictionaries,
            &self.options,
        );
        let mut message = Vec::new();
        write_message(&mut message, encoded, &self.options)?;
        self.checksum = Checksum::default();
        self.checksum.take(&message);
        self.compressed(&[&message])
    }

    /// A batch.
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, EncodeError> {
        let (_, encoded) =
            IpcDataGenerator::default().encode(batch, &mut self.dictionaries, &self.options, &mut self.context)?;
        let ipc_message = self.summed(&encoded)?;
        let mut head = Vec::with_capacity(ipc_message.len() + 2 * PADDING);
        // The body is padded to the alignment already, and is not copied once more for that.
        write_message(&mut head, EncodedData { ipc_message, arrow_data: Vec::new() }, &self.options)?;
        // Before the batch, so that a flood's first batch is not compressed as if there were time.
        let level = self.asked.unwrap_or(if batch.num_rows() < BUSY_ROWS { LEVELS.0 } else { LEVELS.1 });
        let mut bytes = Vec::new();
        if self.batches >= FRAME_BATCHES || level < self.level {
            bytes = self.end_frame(level)?;
        }
        bytes.append(&mut self.compressed(&[&head, &encoded.arrow_data])?);
        self.batches += 1;
        Ok(bytes)
    }

    /// What a file ends with.
    pub(super) fn end(&mut self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = self.compressed(&[&END])?;
        bytes.append(&mut self.end_frame(self.level)?);
        Ok(bytes)
    }

    fn compressed(&mut self, parts: &[&[u8]]) -> Result<Vec<u8>, EncodeError> {
        for part in parts {
            self.frame.write_all(part)?;
        }
        self.frame.flush()?;
        Ok(std::mem::take(self.frame.get_mut()))
    }

    /// The next one is of that level.
    fn end_frame(&mut self, level: i32) -> Result<Vec<u8>, EncodeError> {
        self.batches = 0;
        self.level = level;
        let next = zstd::stream::write::Encoder::new(Vec::new(), level)?;
        Ok(std::mem::replace(&mut self.frame, next).finish()?)
    }

    /// A batch's metadata once more, with its checksum.
    fn summed(&mut self, encoded: &EncodedData) -> Result<Vec<u8>, ArrowError> {
        let invalid = || ArrowError::IpcError("a batch that was just encoded cannot be read".to_owned());
        let message = root_as_message(&encoded.ipc_message).map_err(|_| invalid())?;
        let batch = message.header_as_record_batch().ok_or_else(invalid)?;
        let sum = self.checksum.batch(&batch, &encoded.arrow_data).to_string();

        let mut fbb = FlatBufferBuilder::new();
        let nodes: Vec<FieldNode> = batch.nodes().into_iter().flatten().copied().collect();
        let buffers: Vec<Buffer> = batch.buffers().into_iter().flatten().copied().collect();
        let variadic: Vec<i64> = batch.variadicBufferCounts().into_iter().flatten().collect();
        let nodes = fbb.create_vector(&nodes);
        let buffers = fbb.create_vector(&buffers);
        let variadic = fbb.create_vector(&variadic);
        let header = arrow_ipc::RecordBatch::create(
            &mut fbb,
            &arrow_ipc::RecordBatchArgs {
                length: batch.length(),
                nodes: Some(nodes),
                buffers: Some(buffers),
                compression: None,
                variadicBufferCounts: Some(variadic),
            },
        );
        let (key, value) = (fbb.create_string(CHECKSUM_KEY), fbb.create_string(&sum));
        let pair = KeyValue::create(&mut fbb, &KeyValueArgs { key: Some(key), value: Some(value) });
        let custom_metadata = Some(fbb.create_vector(&[pair]));
        let root = Message::create(
            &mut fbb,
            &MessageArgs {
                version: message.version(),
                header_type: MessageHeader::RecordBatch,
                header: Some(header.as_union_value()),
                bodyLength: message.bodyLength(),
                custom_metadata,
            },
        );
        fbb.finish(root, None);
        Ok(fbb.finished_data().to_vec())
    }
}
