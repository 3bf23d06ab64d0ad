// Members of a JSON object that somebody else wrote.
#include "config/json_fields.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

using namespace ntrace;
using nlohmann::json;

namespace {

/// The field that the first fault names; empty without one.
std::string fault_of(const json_fields& uut) {
  const auto read = uut.outcome();
  if (read) return "";
  EXPECT_EQ(read.error().code, ec::bad_argument);
  for (const auto& [name, field] : read.error().facts)
    if (name == "field") return field;
  return "no field is named";
}

}  // namespace

TEST(json_fields, gives_the_default_of_what_is_absent_or_null) {
  const json value{{"a", nullptr}};
  json_fields uut{value};
  for (const char* field : {"a", "b"}) {
    EXPECT_EQ(uut.count(field, 7), 7u);
    EXPECT_EQ(uut.number(field, 1, 9, -3), -3);
    EXPECT_FALSE(uut.flag(field));
    EXPECT_EQ(uut.text(field, 10), "");
    EXPECT_EQ(uut.words(field, 10), "");
    EXPECT_EQ(uut.list(field, 10), nullptr);
    EXPECT_EQ(uut.value(field), nullptr);
    EXPECT_FALSE(uut.has(field));
  }
  EXPECT_TRUE(uut.is_sound());
}

TEST(json_fields, gives_what_is_there_up_to_its_bound) {
  const json value{{"count", std::numeric_limits<std::uint64_t>::max()},
                   {"least", std::numeric_limits<std::int64_t>::min()},
                   {"flag", true},
                   {"text", "four"},
                   {"list", {1, 2}}};
  json_fields uut{value};
  EXPECT_EQ(uut.count("count"), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(uut.number("least", std::numeric_limits<std::int64_t>::min(), 0),
            std::numeric_limits<std::int64_t>::min());
  EXPECT_TRUE(uut.flag("flag"));
  EXPECT_EQ(uut.text("text", 4), "four");
  ASSERT_NE(uut.list("list", 2), nullptr);
  EXPECT_EQ(uut.list("list", 2)->size(), 2u);
  EXPECT_TRUE(uut.has("flag"));
  EXPECT_TRUE(uut.is_sound());
}

TEST(json_fields, refuses_a_value_of_the_wrong_type_or_beyond_its_bound_by_name) {
  const auto fault = [](json member, const std::function<void(json_fields&)>& read) {
    const json value{{"x", std::move(member)}};
    json_fields uut{value};
    read(uut);
    EXPECT_FALSE(uut.is_sound());
    return fault_of(uut);
  };
  const auto count = [](json_fields& f) { EXPECT_EQ(f.count("x", 3), 3u); };
  for (const auto& wrong : {json(-1), json(1.5), json("1"), json(true), json::array()})
    EXPECT_EQ(fault(wrong, count), "x") << wrong;
  const auto number = [](json_fields& f) { EXPECT_EQ(f.number("x", 1, 9, 3), 3); };
  for (const auto& wrong :
       {json(0), json(10), json(std::numeric_limits<std::uint64_t>::max()), json(2.0), json("2")})
    EXPECT_EQ(fault(wrong, number), "x") << wrong;
  EXPECT_EQ(fault(1, [](json_fields& f) { EXPECT_FALSE(f.flag("x")); }), "x");
  const auto text = [](json_fields& f) { EXPECT_EQ(f.text("x", 4), ""); };
  EXPECT_EQ(fault("five!", text), "x");
  EXPECT_EQ(fault(5, text), "x");
  EXPECT_EQ(fault(5, [](json_fields& f) { EXPECT_EQ(f.words("x", 4), ""); }), "x");
  const auto list = [](json_fields& f) { EXPECT_EQ(f.list("x", 2), nullptr); };
  EXPECT_EQ(fault({1, 2, 3}, list), "x");
  EXPECT_EQ(fault(json::object(), list), "x");
}

TEST(json_fields, cuts_a_text_for_people_and_never_inside_a_character) {
  const json value{{"x", "ab\xe2\x82\xac"}};  // The last character is of three bytes.
  for (const auto& [bytes, right] :
       {std::pair{5u, "ab\xe2\x82\xac"}, {4u, "ab"}, {3u, "ab"}, {2u, "ab"}, {1u, "a"}, {0u, ""}}) {
    json_fields uut{value};
    EXPECT_EQ(uut.words("x", bytes), right);
    EXPECT_TRUE(uut.is_sound());
  }
}

TEST(json_fields, tells_the_first_fault_and_reads_no_further) {
  const json value{{"a", "x"}, {"b", 7}, {"c", 1}};
  json_fields uut{value};
  EXPECT_EQ(uut.count("a"), 0u);
  EXPECT_EQ(uut.text("b", 9), "");
  EXPECT_EQ(uut.count("c", 4), 4u);
  uut.refuse("d", "something else");
  EXPECT_EQ(fault_of(uut), "a");
}

TEST(json_fields, refuses_a_value_that_is_no_object_by_the_name_that_it_is_given) {
  for (const auto& wrong : {json(), json(1), json("x"), json::array({json::object()}),
                            json(json::value_t::discarded)}) {
    json_fields uut{wrong, "offer"};
    EXPECT_EQ(uut.count("a", 2), 2u);
    EXPECT_FALSE(uut.has("a"));
    EXPECT_EQ(fault_of(uut), "offer");
  }
}
