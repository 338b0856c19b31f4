import com.google.i18n.phonenumbers.NumberParseException;
import com.google.i18n.phonenumbers.PhoneNumberUtil;
import com.google.i18n.phonenumbers.PhoneNumberUtil.PhoneNumberFormat;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.text.Normalizer;
import java.time.DateTimeException;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The customers' rules, as schemas/fields has them: each method gives the normal form, or null for nothing there. */
final class Rules {
    /** What is wrong with one field. */
    static final class Invalid extends Exception {
        final String code;

        Invalid(String code, String message) {
            super(message, null, false, false);
            this.code = code;
        }
    }

    private static final int LONGEST_NOTATION = 100;
    private static final int LONGEST_DECOMPOSITION = 4;

    private static final Pattern UNSEEN = Pattern.compile(
        "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
            + "\ufeff\uffa0\ufff0-\ufffb\\x{1bca0}-\\x{1bca3}\\x{1d173}-\\x{1d17a}\\x{e0000}-\\x{e0fff}]+");

    private static final String LOCAL = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+";
    private static final Pattern EMAIL = Pattern.compile(
        "(?=[^@]{1,64}@)" + LOCAL + "(?:\\." + LOCAL + ")*@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9-]{2,63}");

    private static final String TIME =
        "(?:[T ][0-9]{1,2}(?::?[0-9]{2}(?::?[0-9]{2}(?:[.,][0-9]+)?)?)?(?: ?[AaPp][Mm])?"
            + "(?: ?(?:Z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?))?)?";
    private static final Pattern YEAR_FIRST =
        Pattern.compile("([0-9]{4})(?:([-/.])([0-9]{1,2})\\2([0-9]{1,2})|([0-9]{2})([0-9]{2}))" + TIME);
    private static final Pattern YEAR_LAST = Pattern.compile("([0-9]{1,2})([-/.])([0-9]{1,2})\\2([0-9]{4})" + TIME);
    private static final Pattern WEEKDAY =
        Pattern.compile("^(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?,? ", Pattern.CASE_INSENSITIVE);
    private static final Pattern NAMED_MONTH = Pattern.compile(
        "(?:([0-9]{1,2})[ -]([A-Z]{3,9})\\.?,?[ -]|([A-Z]{3,9})\\.? ([0-9]{1,2}),? )([0-9]{4})" + TIME,
        Pattern.CASE_INSENSITIVE);
    private static final List<String> MONTHS = List.of("january", "february", "march", "april", "may", "june", "july",
        "august", "september", "october", "november", "december");

    private static final Pattern THOUSANDS =
        Pattern.compile("[+-]?[0-9]{1,3}(?:([,' ])[0-9]{3})(?:\\1[0-9]{3})*(?:\\.[0-9]*)?");
    private static final String CURRENCIES = "$€£¥₹";

    private static final Set<String> CODES_OF_TWO = Set.of("20", "27", "30", "31", "32", "33", "34", "36", "39", "40",
        "41", "43", "44", "45", "46", "47", "48", "49", "51", "52", "53", "54", "55", "56", "57", "58", "60", "61", "62",
        "63", "64", "65", "66", "81", "82", "84", "86", "90", "91", "92", "93", "94", "95", "98");

    private Rules() {}

    /** Trimmed, white space collapsed, composed; null for nothing. */
    static String tidy(Object value, int longest, boolean withoutUnseen) throws Invalid {
        if (value == null) {
            return null;
        }
        if (!(value instanceof String) && !(value instanceof Number)) {
            throw new Invalid("wrong_type", "expected text, got " + value.getClass().getSimpleName());
        }
        String text = collapsed(value.toString());
        if (text.isEmpty()) {
            return null;
        }
        if (longest > 0 && text.length() > longest * LONGEST_DECOMPOSITION) {
            throw new Invalid("too_long", text.length() + " characters, at most " + longest + " fit");
        }
        if (!isAscii(text)) {
            for (int at = 0; at < text.length(); at++) {
                char c = text.charAt(at);
                if (Character.isHighSurrogate(c) && at + 1 < text.length() && Character.isLowSurrogate(text.charAt(at + 1))) {
                    at++;
                } else if (Character.isSurrogate(c)) {
                    throw new Invalid("not_unicode", "text contains a lone surrogate at position " + at);
                }
            }
            if (withoutUnseen) {
                text = collapsed(UNSEEN.matcher(text).replaceAll(""));
                if (text.isEmpty()) {
                    return null;
                }
            }
            text = Normalizer.normalize(text, Normalizer.Form.NFC);
        }
        if (text.indexOf('\0') >= 0) {
            throw new Invalid("nul_character", "text contains a NUL character, which Postgres cannot hold");
        }
        return text;
    }

    static String text(Object value, int longest) throws Invalid {
        return bounded(tidy(value, longest, false), longest);
    }

    static String key(Object value, int longest) throws Invalid {
        return bounded(tidy(value, 0, true), longest);
    }

    static String email(Object value) throws Invalid {
        String text = tidy(value, 255, true);
        if (text == null) {
            return null;
        }
        text = text.toLowerCase(Locale.ROOT);
        if (!EMAIL.matcher(text).matches()) {
            throw new Invalid("email_form", "'" + start(text, 80) + "' is not an e-mail address");
        }
        return bounded(text, 255);
    }

    static String phone(Object value) throws Invalid {
        String text = tidy(value, LONGEST_NOTATION, true);
        if (text == null) {
            return null;
        }
        StringBuilder kept = new StringBuilder(text.length());
        int plus = -1;
        boolean wrong = false;
        for (int at = 0; at < text.length(); at++) {
            char c = text.charAt(at);
            if (c >= '0' && c <= '9') {
                kept.append(c);
            } else if (c == '+') {
                plus = at;
            } else if (" ().-/".indexOf(c) < 0) {
                wrong = true;
            }
        }
        if (wrong || kept.length() == 0 || (plus > 0 && !text.substring(0, plus).replaceAll("[( ]", "").isEmpty())) {
            throw new Invalid("phone_form", "'" + start(text, 40) + "' is not a telephone number");
        }
        String digits = kept.toString();
        boolean international = plus >= 0;
        if (digits.startsWith("00") && !international) {
            digits = digits.substring(2);
            international = true;
        }
        if (digits.length() < 7 || digits.length() > 15) {
            throw new Invalid("phone_form", "'" + start(text, 40) + "' has " + digits.length() + " digits");
        }
        if (!international) {
            throw new Invalid("ambiguous_phone", "'" + start(text, 40) + "' has no country code");
        }
        return isPlain(digits) ? "+" + digits : withCountryCode("+" + digits);
    }

    private static boolean isPlain(String digits) {
        char first = digits.charAt(0);
        int code = first == '1' || first == '7' ? 1 : CODES_OF_TWO.contains(digits.substring(0, 2)) ? 2 : 3;
        return first != '0' && digits.charAt(code) != '0';
    }

    private static String withCountryCode(String number) throws Invalid {
        PhoneNumberUtil numbers = PhoneNumberUtil.getInstance();
        try {
            var parsed = numbers.parse(number, null);
            if (numbers.isPossibleNumberWithReason(parsed) == PhoneNumberUtil.ValidationResult.IS_POSSIBLE) {
                String kept = numbers.format(parsed, PhoneNumberFormat.E164);
                if (kept.length() >= 8 && kept.length() <= 16 && (kept.equals(number) || isPlain(kept.substring(1)))) {
                    return kept;
                }
            }
        } catch (NumberParseException ignored) {
            // refused below
        }
        throw new Invalid("phone_form", "'" + number + "' is not a telephone number");
    }

    static String date(Object value) throws Invalid {
        String text = tidy(value, LONGEST_NOTATION, true);
        if (text == null) {
            return null;
        }
        try {
            if (text.length() == 10 && text.charAt(4) == '-' && text.charAt(7) == '-') {
                LocalDate.parse(text);
                return text;
            }
            Matcher match = YEAR_FIRST.matcher(text);
            if (match.matches()) {
                String month = match.group(3) != null ? match.group(3) : match.group(5);
                return day(match.group(1), month, match.group(4) != null ? match.group(4) : match.group(6));
            }
            match = YEAR_LAST.matcher(text);
            if (match.matches()) {
                return yearLast(text, match);
            }
            match = NAMED_MONTH.matcher(WEEKDAY.matcher(text).replaceFirst(""));
            if (match.matches()) {
                String name = (match.group(2) != null ? match.group(2) : match.group(3)).toLowerCase(Locale.ROOT);
                for (int month = 1; month <= 12; month++) {
                    String known = MONTHS.get(month - 1);
                    if (name.equals(known) || name.equals(known.substring(0, 3)) || (month == 9 && name.equals("sept"))) {
                        return day(match.group(5), "" + month, match.group(1) != null ? match.group(1) : match.group(4));
                    }
                }
            }
        } catch (DateTimeException wrong) {
            // refused below
        }
        throw new Invalid("date_form", "'" + start(text, 40) + "' is not a date; expected e.g. 2024-01-31");
    }

    private static String yearLast(String text, Matcher match) throws Invalid {
        int first = Integer.parseInt(match.group(1));
        int second = Integer.parseInt(match.group(3));
        boolean dots = match.group(2).equals(".");
        boolean monthFirst = false;
        if (first > 12 || second > 12 || first == second) {
            monthFirst = second > 12 && !dots;
        } else if (!dots) {
            throw new Invalid("ambiguous_date", "'" + start(text, 40) + "' is two dates, day or month first");
        }
        return day(match.group(4), "" + (monthFirst ? first : second), "" + (monthFirst ? second : first));
    }

    private static String day(String year, String month, String day) {
        return LocalDate.of(Integer.parseInt(year), Integer.parseInt(month), Integer.parseInt(day)).toString();
    }

    static String money(Object value, int digits, int places) throws Invalid {
        if (value == null) {
            return null;
        }
        int whole = digits - places;
        BigDecimal number;
        if (value instanceof String given) {
            String plain = plain(given, whole, places);
            if (plain != null) {
                return plain;
            }
            String text = tidy(given, LONGEST_NOTATION, true);
            if (text == null) {
                return null;
            }
            number = amount(text);
        } else if (value instanceof Number) {
            number = new BigDecimal(value.toString());
        } else {
            throw new Invalid("wrong_type", "expected a number, got " + value.getClass().getSimpleName());
        }
        if (number.signum() != 0 && number.precision() - number.scale() > whole) {
            throw new Invalid("out_of_range", "'" + number + "' has more than " + whole + " digits before the point");
        }
        BigDecimal rounded = number.setScale(places, RoundingMode.HALF_EVEN);
        if (rounded.signum() != 0 && rounded.precision() - rounded.scale() > whole) {
            throw new Invalid("out_of_range", "'" + number + "' has more than " + whole + " digits before the point");
        }
        return rounded.toPlainString();
    }

    /** The shortcut for 12, 12.5 and 12.50, most of what comes; null means: look closer. */
    private static String plain(String text, int most, int places) {
        int point = text.indexOf('.');
        int end = point < 0 ? text.length() : point;
        int fraction = point < 0 ? 0 : text.length() - point - 1;
        if (end == 0 || end > most || fraction > places || (text.charAt(0) == '0' && end > 1)) {
            return null;
        }
        for (int at = 0; at < text.length(); at++) {
            char c = text.charAt(at);
            if (at != point && (c < '0' || c > '9')) {
                return null;
            }
        }
        if (fraction == places) {
            return text;
        }
        return text.substring(0, end) + "." + text.substring(point < 0 ? end : point + 1) + "0".repeat(places - fraction);
    }

    private static BigDecimal amount(String given) throws Invalid {
        String text = given;
        boolean negative = text.startsWith("(") && text.endsWith(")");
        if (negative) {
            text = text.substring(1, text.length() - 1);
        }
        String sign = text.startsWith("-") || text.startsWith("+") ? text.substring(0, 1) : "";
        String rest = text.substring(sign.length()).strip();
        if (!rest.isEmpty() && CURRENCIES.indexOf(rest.charAt(0)) >= 0) {
            rest = rest.substring(1).stripLeading();
        } else if (!rest.isEmpty() && CURRENCIES.indexOf(rest.charAt(rest.length() - 1)) >= 0) {
            rest = rest.substring(0, rest.length() - 1).stripTrailing();
        }
        text = sign + rest;
        boolean groups = text.indexOf(',') >= 0 || text.indexOf('\'') >= 0 || text.indexOf(' ') >= 0;
        if ((negative && !sign.isEmpty()) || text.indexOf('_') >= 0 || !isAscii(text)
            || (groups && !THOUSANDS.matcher(text).matches())) {
            throw new Invalid("number_form", "'" + start(given, 40) + "' is not a number");
        }
        try {
            BigDecimal number = new BigDecimal(groups ? text.replaceAll("[,' ]", "") : text);
            return negative ? number.negate() : number;
        } catch (NumberFormatException wrong) {
            throw new Invalid("number_form", "'" + start(given, 40) + "' is not a number");
        }
    }

    private static String bounded(String text, int longest) throws Invalid {
        if (text != null && longest > 0 && text.length() > longest && text.codePointCount(0, text.length()) > longest) {
            throw new Invalid("too_long", text.length() + " characters, at most " + longest + " fit");
        }
        return text;
    }

    private static String collapsed(String text) {
        boolean clean = true;
        boolean before = true;
        for (int at = 0; at < text.length() && clean; at++) {
            char c = text.charAt(at);
            boolean space = isSpace(c);
            clean = !space || (c == ' ' && !before);
            before = space;
        }
        if (clean && !before) {
            return text;
        }
        StringBuilder kept = new StringBuilder(text.length());
        for (int at = 0; at < text.length(); at++) {
            char c = text.charAt(at);
            if (!isSpace(c)) {
                kept.append(c);
            } else if (kept.length() > 0 && kept.charAt(kept.length() - 1) != ' ') {
                kept.append(' ');
            }
        }
        if (kept.length() > 0 && kept.charAt(kept.length() - 1) == ' ') {
            kept.setLength(kept.length() - 1);
        }
        return kept.toString();
    }

    private static boolean isSpace(char c) {
        return c <= ' ' ? (c >= 9 && c <= 13) || (c >= 28 && c <= 32)
            : c == 0x85 || c == 0xa0 || (c > 0xff && Character.isSpaceChar(c));
    }

    private static boolean isAscii(String text) {
        for (int at = 0; at < text.length(); at++) {
            if (text.charAt(at) > 127) {
                return false;
            }
        }
        return true;
    }

    private static String start(String text, int length) {
        return text.length() <= length ? text : text.substring(0, length);
    }

    /** A customer's fields in their order, with what is wrong put into `problems`. */
    static String[] customer(Map<String, Object> record, List<Invalid> problems) {
        String[] data = new String[FIELDS.size()];
        for (int at = 0; at < data.length; at++) {
            String name = FIELDS.get(at);
            Object value = record.get(name);
            try {
                data[at] = switch (at) {
                    case 0 -> key(value, 50);
                    case 1, 2 -> text(value, 100);
                    case 3 -> email(value);
                    case 4 -> phone(value);
                    case 5 -> text(value, 0);
                    case 6 -> date(value);
                    default -> money(value, 15, 2);
                };
                if (data[at] == null && at < REQUIRED) {
                    throw new Invalid(record.containsKey(name) ? "required" : "missing_field", "no '" + name + "'");
                }
            } catch (Invalid problem) {
                problems.add(problem);
            }
        }
        return data;
    }

    static final List<String> FIELDS = List.of("customer_id", "first_name", "last_name", "email", "phone", "address",
        "date_of_birth", "account_balance");
    private static final int REQUIRED = 4;

    static List<String> unknown(Map<String, Object> record) {
        List<String> names = List.of();
        for (String name : record.keySet()) {
            if (!FIELDS.contains(name)) {
                if (names.isEmpty()) {
                    names = new ArrayList<>();
                }
                names.add(name);
            }
        }
        return names;
    }
}
