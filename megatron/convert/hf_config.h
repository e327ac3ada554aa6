// config.json of a Hugging Face model, read and written by the same code: a family lists its keys
// once, with the fields of ours that they set. Reads the spellings of transformers 4 (rope_theta,
// rope_scaling, torch_dtype) and 5 (rope_parameters, dtype); writes that of 4, which both read.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <vector>

#include <nlohmann/json.hpp>

#include "megatron/config/model/gpt_model_config.h"

namespace megatron {

class HfConfig {
 public:
  // To read `json`, an object. `path` names the file in messages.
  HfConfig(nlohmann::json json, std::string path);
  // To write.
  HfConfig() = default;

  bool reads() const { return reads_; }
  const std::string& path() const { return path_; }
  // Written so far, or what is read.
  const nlohmann::json& json() const { return json_; }

  // Reading assigns the value of `key`, or `absent`, transformers' default, where the key is missing
  // or null. Writing stores the field. Throws Error for a value of another type.
  void field(const char* key, bool& value, bool absent);
  void field(const char* key, int64_t& value, int64_t absent);
  void field(const char* key, double& value, double absent);
  void field(const char* key, std::optional<int64_t>& value, int64_t absent);
  // A size. Throws Error where the key is missing or null, or the value is not between 1 and `most`.
  // By default the product of any two sizes of a tensor is far from overflow.
  static constexpr int64_t kLargestSize = int64_t{1} << 24;
  static constexpr int64_t kMostLayers = 1
                                         << 12;  // each is built before its tensors are looked for
  void required(const char* key, int64_t& value, int64_t most = kLargestSize);
  void required(const char* key, std::optional<int64_t>& value, int64_t most = kLargestSize);

  // Reading: the value of `key`, null where it is missing; the key counts as read.
  nlohmann::json take(const std::string& key);
  // Reading: whether the key is there and not null. It does not count as read.
  bool has(const std::string& key) const;
  // Writing: stores a value.
  void put(const std::string& key, nlohmann::json value);

  // Keys that change nothing here: ids of special tokens, caches, names.
  void ignore(std::initializer_list<const char*> keys);
  // A key of which only one value works. A missing key and null pass too; writing stores nothing.
  // Throws Error for another value, with `reason`, a clause such as "experts are not supported yet".
  void only(const std::string& key, const nlohmann::json& value, const std::string& reason);

  // Reading: the rotary parameters of both spellings as one object: rope_type, rope_theta and the
  // members of the type. `default_theta` is that of the family. With `layer_type` ("full_attention")
  // those of its layers, where the configuration has them by type of layer.
  nlohmann::json take_rope(double default_theta, const std::string& layer_type = "");
  // Writing: stores them.
  void put_rope(const nlohmann::json& rope);

  // Reading: throws Error for keys that nobody has read, since they might mean something. An option
  // that is off, null or false, changes nothing in a family that does not have it: returned as
  // "'key' (value)", for a note.
  std::vector<std::string> check_all_read(const std::string& family) const;

 private:
  [[noreturn]] void fail_type(const char* key, const char* expected) const;

  bool reads_ = false;
  std::string path_ = "config.json";
  nlohmann::json json_ = nlohmann::json::object();
  std::set<std::string> read_;
};

}  // namespace megatron
