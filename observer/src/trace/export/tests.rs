//! What is exported is what is in the trace, in the order in which it came.

use std::path::Path;

use serde_json::Value;

use super::*;
use crate::{
    event::{Body, Process, ProxySample},
    testing::event,
    trace::{
        Reader,
        columns::COLUMNS,
        tests::{about, every_kind, record},
    },
};

fn export(path: &Path, format: Format) -> Vec<u8> {
    let mut reader = Reader::open(&[path.to_owned()]).unwrap();
    let mut out = Vec::new();
    let mut export = Export::begin(format, reader.about(), &mut out).unwrap();
    while let Some(table) = reader.next_table().unwrap() {
        export.table(&table).unwrap();
    }
    export.finish().unwrap();
    out
}

fn of_every_kind(format: Format) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows");
    record(&path, &every_kind());
    export(&path, format)
}

#[test]
fn json_lines_are_in_order_and_leave_nulls_out() {
    let text = String::from_utf8(of_every_kind(Format::Jsonl)).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), every_kind().len());
    for (place, row) in rows.iter().enumerate() {
        assert_eq!(row["seq"], place);
        assert!(row.as_object().unwrap().values().all(|value| !value.is_null()));
    }
    assert_eq!((&rows[0]["kind"], &rows[1]["kind"]), (&"host_sample".into(), &"connection_ended".into()));
    assert_eq!(rows[1]["time"], "2026-11-18T11:23:20.049000000Z");
    assert_eq!((&rows[1]["bytes_sent"], &rows[1]["local_ip"]), (&u64::MAX.into(), &"10.0.0.1".into()));
}

#[test]
fn csv_has_a_header_and_quotes_what_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arrows");
    let process = Process { pid: 42, comm: "a \"b\", c".into() };
    let nameless = Process { pid: 43, comm: "".into() };
    let sample = |process| Body::ProxySample(Box::new(ProxySample { process, open_files: 1, open_files_limit: 2 }));
    record(&path, &[event(1, sample(process)), event(2, sample(nameless))]);
    let text = String::from_utf8(export(&path, Format::Csv)).unwrap();
    let lines: Vec<_> = text.split("\r\n").collect();
    assert_eq!(lines.len(), 4, "the last line ends too: {text}");
    assert_eq!(lines[0], COLUMNS.iter().map(|column| column.name).collect::<Vec<_>>().join(","));
    assert!(lines[1].contains(r#",42,"a ""b"", c","#) && lines[2].contains(r#",43,"","#), "{text}");
    assert!(lines[1].ends_with(r#"{""open_files"":1,""open_files_limit"":2}""#), "{text}");
}

#[test]
fn parquet_says_what_the_trace_says_of_itself() {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    let file = bytes::Bytes::from(of_every_kind(Format::Parquet));
    let reader = SerializedFileReader::new(file).unwrap();
    let metadata = reader.metadata().file_metadata();
    assert_eq!(metadata.num_rows(), i64::try_from(every_kind().len()).unwrap());
    assert_eq!(metadata.schema_descr().num_columns(), COLUMNS.len());
    let keys = metadata.key_value_metadata().unwrap();
    let said = keys.iter().find(|pair| pair.key == ABOUT_KEY).and_then(|pair| pair.value.as_deref()).unwrap();
    assert_eq!(serde_json::from_str::<About>(said).unwrap(), about());
}
