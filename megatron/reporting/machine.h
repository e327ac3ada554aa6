// What this machine gives: its matrix-multiplication rate and the memory in use.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace megatron {

// The best rate of a square matrix product in TFLOP/s, of this rank's threads, over about
// `milliseconds`.
double measure_gemm_tflops(at::ScalarType dtype, at::Device device, double milliseconds);

// The share of a peak that a rate is; 0, not known, where the rate is above it: then something else
// had the machine while the peak was measured.
double share_of_peak(double rate, double peak);

// Resident memory of this process in MiB, now and at its peak.
double resident_mib();
double peak_resident_mib();

}  // namespace megatron
