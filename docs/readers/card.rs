// A card, op by op: the softmax of a port in Rust.  rustc -O --edition 2021 card.rs
mod safetensors;
use safetensors::{read, write, Tensor, Tensors};

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect(); // folder of the cards, dump
    let mut dump = Tensors::new();
    for (name, tensor) in read(&format!("{}/softmax.safetensors", args[1]))? {
        let Some(case) = name.strip_suffix(".input.x") else { continue };
        let mut x: Vec<f32> = tensor.values().iter().map(|&v| v as f32).collect();
        for row in x.chunks_mut(*tensor.shape.last().unwrap()) {
            let top = row.iter().cloned().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|v| *v = (*v - top).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|v| *v /= sum);
        }
        let made = Tensor::of_f32(&tensor.shape, &x);
        dump.insert(format!("softmax.{case}.output"), made);
    }
    write(&args[2], &dump)
}
