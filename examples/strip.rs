//! Restyles pictures in several domains and writes a strip: a row for each picture, itself first, then in each domain.
//!
//!     cargo run --release --example strip -- strip.png face.png a-pencil-sketch.nada.safetensors a-zombie.nada.safetensors

use nada::adapt::Domain;
use nada::invert::invert;
use nada::pack::{ModelPack, STARTER};
use nada::picture::Picture;
use nada::pipeline::Drawing;
use nada::progress::{silent, Cancel};
use std::path::PathBuf;

fn main() -> nada::Result<()> {
    nada::threads::prepare();
    let mut files = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(output) = files.next() else {
        eprintln!("usage: strip OUTPUT.png PICTURE... DOMAIN.safetensors...");
        std::process::exit(2);
    };
    let (domains, pictures): (Vec<_>, Vec<_>) = files.partition(|file| file.extension().is_some_and(|e| e == "safetensors"));

    let pack = ModelPack::find(STARTER)?;
    let generator = pack.load_generator()?;
    let mut adapted = Vec::new();
    for file in &domains {
        adapted.push(generator.with_domains(&[(&Domain::open(file)?, 1.0)])?);
    }
    let mut row = Vec::new();
    for file in &pictures {
        let picture = Picture::open(file)?;
        let found = invert(&generator, &picture, None, &pack.invert_settings()?, &Cancel::new(), &mut silent)?;
        println!("{}: inverted at {:.1} dB", file.display(), found.psnr);
        row.push(picture.square(generator.config().size())?);
        for adapted in &adapted {
            row.push(Drawing::default().picture(adapted, &found.latent)?);
        }
    }
    Picture::contact_sheet(&row, 1 + domains.len())?.save_png(&output)?;
    println!("strip: {}", output.display());
    Ok(())
}
