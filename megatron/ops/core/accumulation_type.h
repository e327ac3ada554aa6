// The type in which a storage type is computed: double for double, float for all others.
#pragma once

#include <type_traits>

namespace megatron::lanes {

template <typename T>
using accumulation_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

}  // namespace megatron::lanes
