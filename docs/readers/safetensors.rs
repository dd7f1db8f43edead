// Reads and writes safetensors files: Rust 2021, the standard library alone.
use std::collections::BTreeMap;
use std::{fs, io};

#[derive(Clone, Debug, Default)]
pub struct Tensor {
    pub dtype: String, // "F64", "F32", "I64", "BOOL", ...
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>, // little-endian
}
pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    /// The numbers, whatever they are.
    pub fn values(&self) -> Vec<f64> {
        let b = &self.bytes;
        let eight = || b.chunks_exact(8).map(|x| <[u8; 8]>::try_from(x).unwrap());
        let four = || b.chunks_exact(4).map(|x| <[u8; 4]>::try_from(x).unwrap());
        match self.dtype.as_str() {
            "F64" => eight().map(f64::from_le_bytes).collect(),
            "F32" => four().map(|x| f32::from_le_bytes(x) as f64).collect(),
            "I64" => eight().map(|x| i64::from_le_bytes(x) as f64).collect(),
            "BOOL" => b.iter().map(|&x| x as f64).collect(),
            other => panic!("no reader for {other}"),
        }
    }

    pub fn of_f32(shape: &[usize], x: &[f32]) -> Tensor {
        let bytes = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { dtype: "F32".into(), shape: shape.to_vec(), bytes }
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_string())
}

/// {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...}
pub fn read(path: &str) -> io::Result<Tensors> {
    let all = fs::read(path)?;
    let head = all.get(..8).ok_or_else(|| bad("no safetensors file"))?;
    let size = u64::from_le_bytes(head.try_into().unwrap()) as usize;
    let end = size.checked_add(8).ok_or_else(|| bad("is cut off"))?;
    let text = all.get(8..end).ok_or_else(|| bad("is cut off"))?;
    let header = std::str::from_utf8(text).map_err(|_| bad("bad header"))?;
    let mut tensors = Tensors::new();
    // Names of goldens have no quotes and no braces in them.
    for entry in header.trim().trim_start_matches('{').split('}') {
        let Some((name, fields)) = entry.split_once('{') else { continue };
        let name = name.split('"').nth(1).ok_or_else(|| bad("bad header"))?;
        if name == "__metadata__" {
            continue;
        }
        let behind = |key: &str| -> io::Result<&str> {
            Ok(fields.split_once(key).ok_or_else(|| bad(key))?.1)
        };
        let list = |key: &str| -> io::Result<Vec<usize>> {
            let inner = behind(key)?.split(['[', ']']).nth(1).unwrap_or("");
            let parts = inner.split(',').map(str::trim).filter(|x| !x.is_empty());
            parts.map(|x| x.parse().map_err(|_| bad(key))).collect()
        };
        let word = behind("\"dtype\"")?.split('"').nth(1).unwrap_or("");
        let dtype = word.to_string();
        let (shape, place) = (list("\"shape\"")?, list("\"data_offsets\"")?);
        let data = all.get(end + place[0]..end + place[1]);
        let bytes = data.ok_or_else(|| bad("is cut off"))?.to_vec();
        tensors.insert(name.to_string(), Tensor { dtype, shape, bytes });
    }
    Ok(tensors)
}

pub fn write(path: &str, tensors: &Tensors) -> io::Result<()> {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, x) in tensors {
        let place = [data.len(), data.len() + x.bytes.len()];
        data.extend_from_slice(&x.bytes);
        let (dtype, shape) = (&x.dtype, &x.shape);
        let fields = format!("\"dtype\":\"{dtype}\",\"shape\":{shape:?}");
        entries.push(format!("\"{name}\":{{{fields},\"data_offsets\":{place:?}}}"));
    }
    let header = format!("{{{}}}", entries.join(","));
    let size = (header.len() as u64).to_le_bytes();
    fs::write(path, [&size[..], header.as_bytes(), &data].concat())
}
