//! Batches as other tools are to see them.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow_select::take::take_record_batch;

use super::{
    columns::{COLUMNS, Filled},
    decode::RowError,
    format,
    words::Kind,
};

/// The known columns of a batch, rows in the order in which observer learned of them. Checkpoints are left out: they are
/// large, and of no use to anybody else.
pub(super) fn of(batch: &RecordBatch) -> Result<RecordBatch, RowError> {
    let filled = Filled::of(batch).map_err(RowError::Column)?;
    let mut order: Vec<(u32, u32)> = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        if filled.kind.get(row) != Some(Kind::Checkpoint.name()) {
            order.push((filled.seq.or_zero(row), u32::try_from(row).map_err(|_| RowError::Order)?));
        }
    }
    order.sort_unstable();
    let columns = COLUMNS.iter().map(|column| {
        let missing = || new_null_array(column.field().data_type(), batch.num_rows());
        batch.column_by_name(column.name).cloned().unwrap_or_else(missing)
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let order = UInt32Array::from_iter_values(order.into_iter().map(|(_, row)| row));
    let known = RecordBatch::try_new(Arc::clone(&format::schema()), columns);
    // All arrays are as long as the batch, and every row is in it.
    known.and_then(|known| take_record_batch(&known, &order)).map_err(|_| RowError::Order)
}
