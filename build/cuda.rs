//! With the feature `cuda`: compiles the kernels, and lets the linker find empty libraries in place of NVIDIA's (src/kernels/cuda/lazy.rs says
//! why).

use std::path::Path;
use std::process::Command;

/// Machine code for these chips, and portable code of the first for whatever comes later.
const CHIPS: [&str; 6] = ["75", "80", "86", "89", "90", "120"];

/// Files of src/kernels/cuda.
const KERNELS: [&str; 5] = ["conv", "optim", "picture", "style", "transformer"];

pub fn build(root: &Path, out: &Path) {
    println!("cargo:rerun-if-changed=src/kernels/cuda");
    println!("cargo:rerun-if-env-changed=NVCC");
    for library in ["cuda", "cublas", "cublasLt", "curand", "nvrtc", "cudart"] {
        std::fs::write(out.join(format!("lib{library}.a")), "!<arch>\n").expect("OUT_DIR can be written");
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    let nvcc = std::env::var_os("NVCC").unwrap_or("nvcc".into());
    for kernel in KERNELS {
        let mut command = Command::new(&nvcc);
        command.args(["-O3", "-std=c++17", "--fatbin", "--threads=0"]);
        for chip in CHIPS {
            command.arg(format!("-gencode=arch=compute_{chip},code=sm_{chip}"));
        }
        command.arg(format!("-gencode=arch=compute_{0},code=compute_{0}", CHIPS[0]));
        command.arg("-o").arg(out.join(format!("{kernel}.fatbin"))).arg(root.join(format!("src/kernels/cuda/{kernel}.cu")));
        let status = command.status().unwrap_or_else(|e| {
            panic!("{}: {e}. The feature cuda needs NVIDIA's compiler: docs/cuda.md", nvcc.to_string_lossy());
        });
        assert!(status.success(), "{kernel}.cu: {status}");
    }
}
