#include "megatron/transformer/packed_seq_params.h"

#include <ATen/ATen.h>

#include "megatron/base/error.h"

namespace megatron {
namespace {

at::Tensor checked(const at::Tensor& offsets, const char* name, int64_t tokens,
                   const std::optional<int64_t>& longest) {
  check(offsets.defined() && offsets.dim() == 1 && offsets.size(0) >= 2 &&
            at::isIntegralType(offsets.scalar_type(), /*includeBool=*/false),
        "Expected {} of shape [sequences + 1] and an integer dtype, but got {}", name,
        offsets.defined() ? fmt::format("{}", fmt::join(offsets.sizes(), ", ")) : "none");
  const at::Tensor whole = offsets.cpu().to(at::kLong).contiguous();
  const int64_t* values = whole.const_data_ptr<int64_t>();
  const int64_t sequences = whole.size(0) - 1;
  check(values[0] == 0, "Expected {} to begin at 0, but got {}", name, values[0]);
  for (int64_t i = 0; i < sequences; ++i) {
    check(values[i] < values[i + 1], "Expected {} to increase, but got {} before {}", name,
          values[i], values[i + 1]);
    check(!longest || values[i + 1] - values[i] <= *longest,
          "Expected sequences of at most {} tokens in {}, but got one of {}", *longest, name,
          values[i + 1] - values[i]);
  }
  check(values[sequences] == tokens, "Expected {} to end at the {} tokens given, but got {}", name,
        tokens, values[sequences]);
  return whole;
}

std::vector<int64_t> numbers(const at::Tensor& whole) {
  const at::Tensor dense = whole.contiguous();
  return {dense.const_data_ptr<int64_t>(), dense.const_data_ptr<int64_t>() + dense.numel()};
}

// The padded boundaries, after checking that each sequence fits into its padded space.
at::Tensor checked_padded_offsets(const PackedSeqParams& params, int64_t tokens) {
  const at::Tensor padded = checked(params.cu_seqlens_q_padded, "cu_seqlens_q_padded", tokens, {});
  check(!params.cu_seqlens_kv_padded.defined() ||
            checked(params.cu_seqlens_kv_padded, "cu_seqlens_kv_padded", tokens, {}).equal(padded),
        "Expected cu_seqlens_q_padded and cu_seqlens_kv_padded that agree (self-attention), but "
        "they differ");
  const auto own = [&](const at::Tensor& offsets, const char* name,
                       const std::optional<int64_t>& longest) {
    check(offsets.defined() && offsets.numel() > 0,
          "Expected {} with cu_seqlens_q_padded, but got none", name);
    return checked(offsets, name, offsets.flatten()[-1].item<int64_t>(), longest);
  };
  const at::Tensor queries = own(params.cu_seqlens_q, "cu_seqlens_q", params.max_seqlen_q);
  check(!params.cu_seqlens_kv.defined() ||
            own(params.cu_seqlens_kv, "cu_seqlens_kv", params.max_seqlen_kv).equal(queries),
        "Expected cu_seqlens_q and cu_seqlens_kv that agree (self-attention), but they differ");
  check(queries.sizes() == padded.sizes() && queries.diff().le(padded.diff()).all().item<bool>(),
        "Expected sequences of cu_seqlens_q that fit into those of cu_seqlens_q_padded, but got "
        "lengths {} and {}",
        fmt::join(numbers(queries.diff()), ", "), fmt::join(numbers(padded.diff()), ", "));
  return padded;
}

at::Tensor padded_offsets(const PackedSeqParams& params) {
  const bool padded = params.cu_seqlens_q_padded.defined();
  return (padded ? params.cu_seqlens_q_padded : params.cu_seqlens_q).cpu().to(at::kLong);
}

}  // namespace

at::Tensor PackedSeqParams::checked_offsets(int64_t tokens) const {
  if (cu_seqlens_q_padded.defined()) return checked_padded_offsets(*this, tokens);
  check(!cu_seqlens_kv_padded.defined(),
        "Expected cu_seqlens_q_padded with cu_seqlens_kv_padded, but got the latter alone");
  const at::Tensor queries = checked(cu_seqlens_q, "cu_seqlens_q", tokens, max_seqlen_q);
  if (!cu_seqlens_kv.defined()) return queries;
  check(checked(cu_seqlens_kv, "cu_seqlens_kv", tokens, max_seqlen_kv).equal(queries),
        "Expected cu_seqlens_q and cu_seqlens_kv that agree (self-attention), but they differ");
  return queries;
}

at::Tensor PackedSeqParams::sequence_numbers(const at::Tensor& positions) const {
  return at::searchsorted(padded_offsets(*this), positions, /*out_int32=*/false, /*right=*/true) -
         1;
}

at::Tensor PackedSeqParams::positions_in_sequence(const at::Tensor& positions) const {
  return positions - padded_offsets(*this).index_select(0, sequence_numbers(positions));
}

}  // namespace megatron
