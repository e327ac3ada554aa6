// What this machine gives: its matrix-multiplication rate and the memory in use.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace megatron {

// The best rate of a square matrix product in TFLOP/s, of this rank's threads, over about
// `milliseconds`.
double measure_gemm_tflops(at::ScalarType dtype, at::Device device, double milliseconds);

// Resident memory of this process in MiB, now and at its peak.
double resident_mib();
double peak_resident_mib();

}  // namespace megatron
