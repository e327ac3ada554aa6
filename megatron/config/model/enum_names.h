// Names of enumeration values in declaration order.
#pragma once

#include <array>
#include <string_view>

#include "megatron/config/model/ddp_config.h"
#include "megatron/config/model/gpt_model_config.h"
#include "megatron/config/model/optimizer_config.h"
#include "megatron/config/model/training_config.h"

namespace megatron {

template <typename Enum>
inline constexpr std::array<std::string_view, 0> enum_names{};

template <>
inline constexpr std::array<std::string_view, 2> enum_names<Normalization>{"LayerNorm", "RMSNorm"};
template <>
inline constexpr std::array<std::string_view, 5> enum_names<ActivationFunction>{
    "gelu", "silu", "squared_relu", "quick_gelu", "openai_gelu"};
template <>
inline constexpr std::array<std::string_view, 5> enum_names<PositionEmbeddingType>{
    "learned_absolute", "rope", "yarn", "mrope", "none"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<RopeType>{"rope", "yarn"};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<SoftmaxType>{"vanilla", "off-by-one",
                                                                         "learnable"};
template <>
inline constexpr std::array<std::string_view, 5> enum_names<AttentionBackend>{
    "auto", "flash", "fused", "unfused", "local"};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<CrossEntropyFusion>{"native", "te",
                                                                                "linear"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<RecomputeGranularity>{"full",
                                                                                  "selective"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<RecomputeMethod>{"uniform", "block"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<TransformerImpl>{"local",
                                                                             "transformer_engine"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<CudaGraphImpl>{"none", "local"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<Fp8Format>{"e4m3", "hybrid"};
template <>
inline constexpr std::array<std::string_view, 4> enum_names<Fp8Recipe>{"delayed", "tensorwise",
                                                                       "blockwise", "mxfp8"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<AmaxComputeAlgo>{"most_recent", "max"};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<CpCommType>{"p2p", "a2a", "allgather"};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<NormPlacement>{"before", "after",
                                                                           "around"};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<QkNormScope>{"head", "per_head",
                                                                         "projection"};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<MoeRouterScoreFunction>{
    "softmax", "sigmoid", "sqrtsoftplus"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<MoeTokenDispatcherType>{"allgather",
                                                                                    "alltoall"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<MoeTokenDropPolicy>{"probs",
                                                                                "position"};
template <>
inline constexpr std::array<std::string_view, 4> enum_names<DataParallelShardingStrategy>{
    "no_shard", "optim", "optim_grads", "optim_grads_params"};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<OptimizerType>{"adam", "sgd"};
template <>
inline constexpr std::array<std::string_view, 4> enum_names<LrDecayStyle>{"constant", "linear",
                                                                          "cosine", "WSD"};
template <>
inline constexpr std::array<std::string_view, 4> enum_names<WsdDecayStyle>{
    "linear", "cosine", "exponential", "minus_sqrt"};
template <>
inline constexpr std::array<std::string_view, 8> enum_names<TokenizerType>{
    "GPT2BPETokenizer",       "HuggingFaceTokenizer",      "ByteTokenizer",   "NullTokenizer",
    "SentencePieceTokenizer", "GPTSentencePieceTokenizer", "Llama2Tokenizer", "TikTokenizer"};

template <typename Enum>
constexpr std::string_view enum_name(Enum value) {
  return enum_names<Enum>[static_cast<size_t>(value)];
}

}  // namespace megatron
