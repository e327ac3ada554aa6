#include "megatron/tokenizers/text/character_classes.h"

#include <array>
#include <cstring>
#include <memory>
#include <oniguruma.h>
#include <vector>

#include "megatron/base/error.h"
#include "megatron/tokenizers/text/utf8.h"

namespace megatron {
namespace {

constexpr OnigCodePoint kCodePoints = 0x110000;

struct CodePointRange {
  OnigCodePoint first, last;
};

// Added by Unicode 15 and 16. Debian's Oniguruma 6.9.8 implements Unicode 14; the one in Hugging
// Face's tokenizers implements Unicode 16.
constexpr CodePointRange kNewLetters[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
    {0x10D4A, 0x10D65}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x1123F, 0x11240},
    {0x11380, 0x11389}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E}, {0x11390, 0x113B5},
    {0x113B7, 0x113B7}, {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0},
    {0x11F02, 0x11F02}, {0x11F04, 0x11F10}, {0x11F12, 0x11F33}, {0x1342F, 0x1342F},
    {0x13441, 0x13446}, {0x13460, 0x143FA}, {0x16100, 0x1611D}, {0x16D40, 0x16D6C},
    {0x18CFF, 0x18CFF}, {0x1B132, 0x1B132}, {0x1B155, 0x1B155}, {0x1DF25, 0x1DF2A},
    {0x1E030, 0x1E06D}, {0x1E4D0, 0x1E4EB}, {0x1E5D0, 0x1E5ED}, {0x1E5F0, 0x1E5F0},
    {0x2B739, 0x2B739}, {0x2EBF0, 0x2EE5D}, {0x31350, 0x323AF},
};
constexpr CodePointRange kNewNumbers[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x11F50, 0x11F59},
    {0x16130, 0x16139}, {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1D2C0, 0x1D2D3},
    {0x1E4F0, 0x1E4F9}, {0x1E5F1, 0x1E5FA},
};

// Join_Control, and what Unicode 15 and 16 added to \w.
constexpr CodePointRange kNewWordCharacters[] = {
    {0x0897, 0x0897},   {0x0CF3, 0x0CF3},   {0x0ECE, 0x0ECE},   {0x1C89, 0x1C8A},
    {0x200C, 0x200D},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3},
    {0x10D40, 0x10D65}, {0x10D69, 0x10D6D}, {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4},
    {0x10EFC, 0x10EFF}, {0x1123F, 0x11241}, {0x11380, 0x11389}, {0x1138B, 0x1138B},
    {0x1138E, 0x1138E}, {0x11390, 0x113B5}, {0x113B7, 0x113C0}, {0x113C2, 0x113C2},
    {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D3}, {0x113E1, 0x113E2},
    {0x116D0, 0x116E3}, {0x11BC0, 0x11BE0}, {0x11BF0, 0x11BF9}, {0x11F00, 0x11F10},
    {0x11F12, 0x11F3A}, {0x11F3E, 0x11F42}, {0x11F50, 0x11F5A}, {0x1342F, 0x1342F},
    {0x13440, 0x13455}, {0x13460, 0x143FA}, {0x16100, 0x16139}, {0x16D40, 0x16D6C},
    {0x16D70, 0x16D79}, {0x18CFF, 0x18CFF}, {0x1B132, 0x1B132}, {0x1B155, 0x1B155},
    {0x1CCF0, 0x1CCF9}, {0x1DF25, 0x1DF2A}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F},
    {0x1E4D0, 0x1E4F9}, {0x1E5D0, 0x1E5FA}, {0x2B739, 0x2B739}, {0x2EBF0, 0x2EE5D},
    {0x31350, 0x323AF},
};

using ClassTable = std::array<CharacterClass, kCodePoints>;

template <typename Table, typename Value>
void set_range(Table& table, CodePointRange range, Value value) {
  std::fill(table.begin() + range.first, table.begin() + range.last + 1, value);
}

template <typename Table, typename Value>
void set_property(Table& table, const char* property, Value value) {
  OnigEncoding utf8 = ONIG_ENCODING_UTF8;
  const std::string name = property;
  auto* begin = reinterpret_cast<OnigUChar*>(const_cast<char*>(name.data()));
  const int type = utf8->property_name_to_ctype(utf8, begin, begin + name.size());
  check(type >= 0, "Expected Oniguruma to know the Unicode property {}, but it does not", property);
  OnigCodePoint single_byte_end = 0;
  const OnigCodePoint* ranges = nullptr;  // count, then first and last of each range
  const int status =
      utf8->get_ctype_code_range(static_cast<OnigCtype>(type), &single_byte_end, &ranges);
  check(status == 0 && ranges != nullptr,
        "Expected Oniguruma to list the characters of the Unicode property {}, but it does not",
        property);
  for (OnigCodePoint i = 0; i < ranges[0]; ++i) {
    set_range(table, CodePointRange{ranges[1 + 2 * i], ranges[2 + 2 * i]}, value);
  }
}

std::unique_ptr<const ClassTable> make_class_table() {
  auto table = std::make_unique<ClassTable>();
  table->fill(CharacterClass::other);
  set_property(*table, "L", CharacterClass::letter);
  set_property(*table, "N", CharacterClass::number);
  set_property(*table, "Space", CharacterClass::space);
  for (const auto& range : kNewLetters) set_range(*table, range, CharacterClass::letter);
  for (const auto& range : kNewNumbers) set_range(*table, range, CharacterClass::number);
  (*table)['\r'] = (*table)['\n'] = CharacterClass::newline;
  return table;
}

std::unique_ptr<const std::vector<bool>> make_word_table() {
  auto table = std::make_unique<std::vector<bool>>(kCodePoints);
  set_property(*table, "Word", true);
  for (const auto& range : kNewWordCharacters) set_range(*table, range, true);
  return table;
}

}  // namespace

bool is_word_character(uint32_t code_point) {
  static const std::unique_ptr<const std::vector<bool>> table = make_word_table();
  return (*table)[code_point];
}

const CharacterClass* character_classes() {
  static const std::unique_ptr<const ClassTable> table = make_class_table();
  return table->data();
}

ClassifiedCharacter classify(const CharacterClass* classes, std::string_view text, size_t i) {
  const auto first = static_cast<unsigned char>(text[i]);
  if (first < 0x80) return {classes[first], i + 1};
  const size_t length = utf8_length(text[i]);
  return {classes[decode_utf8(text.substr(i, length))], i + length};
}

}  // namespace megatron
