// Measurements of this machine: GEMM rate and resident memory.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace megatron {

// The highest rate of a square matmul on this rank's threads, in TFLOP/s. Takes about
// `milliseconds`.
double measure_gemm_tflops(at::ScalarType dtype, at::Device device, double milliseconds);

// rate / peak, or 0 for unknown if the rate exceeds the peak: then the machine was busy when the
// peak was measured.
double share_of_peak(double rate, double peak);

// Resident memory of this process, current and peak, in MiB.
double resident_mib();
double peak_resident_mib();

}  // namespace megatron
