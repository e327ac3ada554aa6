// Argument checks and dtype dispatch shared by all operators.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include <ATen/core/Tensor.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <c10/util/accumulate.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "megatron/base/dtype.h"
#include "megatron/base/error.h"

namespace megatron {

// Whether the block products support the dtype. fp16 is widened to fp32 for them.
inline bool has_kernel(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16;
}

inline bool use_cpu_kernel(const at::Tensor& x) {
  return x.is_cpu() && x.layout() == at::kStrided && has_kernel(x.scalar_type());
}

// For operators that load and store elements: their kernels support fp16 too.
inline bool use_cpu_kernel_or_half(const at::Tensor& x) {
  return use_cpu_kernel(x) ||
         (x.is_cpu() && x.layout() == at::kStrided && x.scalar_type() == at::kHalf);
}

// Whether products of x widen it to fp32 first: processors with fp16 products are few, and
// libtorch's loops for the others take many times as long.
inline bool widens_for_products(const at::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == at::kHalf;
}

// Calls body(T{}) with the C++ type of a dtype that satisfies has_kernel.
template <typename Body>
decltype(auto) dispatch_dtype(at::ScalarType dtype, Body&& body) {
  switch (dtype) {
    case at::kDouble:
      return body(double{});
    case at::kBFloat16:
      return body(c10::BFloat16{});
    case at::kFloat:
      return body(float{});
    default:
      fail("Expected dtype fp32, fp64 or bf16, but got {}", dtype_name(dtype));
  }
}

// dispatch_dtype for operators whose kernels also support fp16.
template <typename Body>
decltype(auto) dispatch_dtype_or_half(at::ScalarType dtype, Body&& body) {
  return dtype == at::kHalf ? body(c10::Half{}) : dispatch_dtype(dtype, body);
}

inline void check_defined(const at::Tensor& x, std::string_view operation, std::string_view name) {
  check(x.defined(), "{}: Expected a tensor as {}, but got an undefined one", operation, name);
}

inline void check_floating(const at::Tensor& x, std::string_view operation, std::string_view name) {
  check_defined(x, operation, name);
  check(at::isFloatingType(x.scalar_type()),
        "{}: Expected {} of a floating dtype (fp32, fp64, bf16, fp16), but got {}", operation, name,
        c10::toString(x.scalar_type()));
}

inline void check_shape(const at::Tensor& x, at::IntArrayRef shape, std::string_view operation,
                        std::string_view name) {
  check_defined(x, operation, name);
  check(x.sizes() == shape, "{}: Expected {} of shape [{}], but got [{}]", operation, name,
        fmt::join(shape, ", "), fmt::join(x.sizes(), ", "));
}

// Checks for the same device, and the same dtype if `dtype` is true.
inline void check_alike(const at::Tensor& x, const at::Tensor& like, std::string_view operation,
                        std::string_view name, bool dtype = true) {
  check_defined(x, operation, name);
  check(x.device() == like.device(), "{}: Expected {} on {}, but got {}", operation, name,
        like.device().str(), x.device().str());
  check(!dtype || x.scalar_type() == like.scalar_type(), "{}: Expected {} of dtype {}, but got {}",
        operation, name, c10::toString(like.scalar_type()), c10::toString(x.scalar_type()));
}

// Checks sample ordinals or positions: int64 [count], contiguous, on the CPU.
inline void check_ordinals(const at::Tensor& index, int64_t count, std::string_view operation,
                           std::string_view name) {
  check_shape(index, {count}, operation, name);
  check(index.scalar_type() == at::kLong && index.is_cpu() && index.is_contiguous(),
        "{}: Expected {} as contiguous int64 on the CPU, but got {} on {}", operation, name,
        c10::toString(index.scalar_type()), index.device().str());
}

// A tensor that may be undefined, as an argument of an autograd function.
inline std::optional<at::Tensor> optional_tensor(const at::Tensor& x) {
  return x.defined() ? std::optional<at::Tensor>(x) : std::nullopt;
}

template <typename T>
T* data_or_null(const at::Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

// x [..., h] as a contiguous [rows, h]; x may be empty.
inline at::Tensor flatten_rows(const at::Tensor& x) {
  return x.reshape({c10::multiply_integers(x.sizes().slice(0, x.dim() - 1)), x.size(-1)})
      .contiguous();
}

}  // namespace megatron
