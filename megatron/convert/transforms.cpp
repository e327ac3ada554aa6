#include "megatron/convert/transforms.h"

#include "megatron/base/error.h"
#include "megatron/convert/tensor_source.h"

namespace megatron {
namespace {

// `count` rows of a tensor that has the trailing dimensions of `shape`.
Rectangle rows_of(const std::vector<int64_t>& shape, int64_t first, int64_t count) {
  Rectangle region = whole_rectangle(shape);
  region.offset[0] = first;
  region.shape[0] = count;
  return region;
}

Rectangle flipped(Rectangle region) {
  std::swap(region.offset[0], region.offset[1]);
  std::swap(region.shape[0], region.shape[1]);
  return region;
}

void check_count(const MapContext& context, size_t count) {
  check(context.tensors.size() == count, "Expected {} tensors for this transform, but got {}",
        count, context.tensors.size());
}

// The parts of query, key and value. `place(which, row, rows)` gives their rectangle in the tensor of
// the name tensors[which].
template <typename Place>
std::vector<MapPart> by_group(const MapContext& context, const Place& place) {
  const TransformerConfig& t = context.config.transformer;
  const int64_t d = t.head_dim(), groups = t.query_groups();
  const int64_t heads = t.num_attention_heads / groups;  // queries of a group
  check(context.shape[0] == (t.num_attention_heads + 2 * groups) * d,
        "Expected a query-key-value parameter of {} rows, but got {}",
        (t.num_attention_heads + 2 * groups) * d, context.shape[0]);
  std::vector<MapPart> parts;
  int64_t row = 0;  // of ours
  const auto add = [&](int which, int64_t first, int64_t rows) {
    MapPart part = place(which, first, rows);
    part.ours = rows_of(context.shape, row, rows);
    parts.push_back(std::move(part));
    row += rows;
  };
  for (int64_t group = 0; group < groups; ++group) {
    add(0, group * heads * d, heads * d);
    add(1, group * d, d);
    add(2, group * d, d);
  }
  return parts;
}

// The first row of query, key and value in a tensor that holds all three.
int64_t joined_row(const TransformerConfig& t, int which, int64_t first) {
  const int64_t d = t.head_dim();
  if (which == 0) return first;
  return (t.num_attention_heads + (which - 1) * t.query_groups()) * d + first;
}

}  // namespace

std::vector<MapPart> same(const MapContext& context) {
  check_count(context, 1);
  const Rectangle whole = whole_rectangle(context.shape);
  return {{context.tensors[0], whole, whole}};
}

std::vector<MapPart> transposed(const MapContext& context) {
  check_count(context, 1);
  const Rectangle whole = whole_rectangle(context.shape);
  return {{context.tensors[0], whole, flipped(whole), /*transposed=*/true}};
}

std::vector<MapPart> query_key_value(const MapContext& context) {
  check_count(context, 3);
  return by_group(context, [&](int which, int64_t first, int64_t rows) {
    return MapPart{context.tensors[which], {}, rows_of(context.shape, first, rows)};
  });
}

std::vector<MapPart> joined_query_key_value(const MapContext& context) {
  check_count(context, 1);
  return by_group(context, [&](int which, int64_t first, int64_t rows) {
    return MapPart{
        context.tensors[0],
        {},
        rows_of(context.shape, joined_row(context.config.transformer, which, first), rows)};
  });
}

std::vector<MapPart> transposed_query_key_value(const MapContext& context) {
  std::vector<MapPart> parts = joined_query_key_value(context);
  for (MapPart& part : parts) {
    part.theirs = flipped(part.theirs);
    part.transposed = true;
  }
  return parts;
}

std::vector<MapPart> gate_and_up(const MapContext& context) {
  check_count(context, 2);
  const int64_t f = context.shape[0] / 2;
  return {{context.tensors[0], rows_of(context.shape, 0, f), rows_of(context.shape, 0, f)},
          {context.tensors[1], rows_of(context.shape, f, f), rows_of(context.shape, 0, f)}};
}

}  // namespace megatron
