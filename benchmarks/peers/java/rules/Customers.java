import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * Raw customers to clean ones, with Jackson. For one thread, since its buffer is used again.
 *
 * With PEER_FORM=connect the clean value is the customer alone, with Kafka Connect's types: a date is a number of days,
 * an amount a number. Otherwise it has our envelope: key, coordinates of the raw record, source and kind.
 */
final class Customers {
    /** A raw record's coordinates, and the headers that its clean one repeats; null where it has none. */
    record Origin(String topic, int partition, long offset, long timestamp, String source, String kind) {}

    /** Either key and value of the clean record, or what is wrong with the raw one. */
    record Outcome(byte[] key, byte[] value, String failure) {}

    private static final ObjectMapper MAPPER = new ObjectMapper(
            JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build())
        .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
        .enable(DeserializationFeature.USE_BIG_INTEGER_FOR_INTS);
    private static final ObjectReader READER = MAPPER.readerFor(new TypeReference<Map<String, Object>>() {});
    private static final int DATE = Rules.FIELDS.indexOf("date_of_birth");
    private static final boolean ENVELOPE = !"connect".equals(System.getenv("PEER_FORM"));

    private final ByteArrayBuilder buffer = new ByteArrayBuilder(1024);

    Outcome normalize(byte[] raw, Origin origin) {
        List<Rules.Invalid> problems = new ArrayList<>(0);
        try {
            Map<String, Object> given = READER.readValue(raw);
            String[] data = Rules.customer(given, problems);
            if (problems.isEmpty()) {
                byte[] value = clean(data, Rules.unknown(given), origin);
                return new Outcome(data[0].getBytes(StandardCharsets.UTF_8), value, null);
            }
        } catch (IOException wrong) {
            problems.add(new Rules.Invalid("not_json", wrong.getMessage()));
        }
        return new Outcome(null, null, problems.get(0).code + ": " + problems.get(0).getMessage());
    }

    private byte[] clean(String[] data, List<String> unknown, Origin origin) throws IOException {
        buffer.reset();
        try (JsonGenerator json = MAPPER.getFactory().createGenerator(buffer)) {
            json.writeStartObject();
            if (ENVELOPE) {
                json.writeStringField("key", data[0]);
                json.writeObjectFieldStart("origin");
                json.writeStringField("topic", origin.topic());
                json.writeNumberField("partition", origin.partition());
                json.writeNumberField("offset", origin.offset());
                json.writeNumberField("timestamp", origin.timestamp());
                json.writeEndObject();
                json.writeObjectFieldStart("data");
            }
            for (int at = 0; at < data.length; at++) {
                String name = Rules.FIELDS.get(at);
                if (ENVELOPE || at < DATE || data[at] == null) {
                    json.writeStringField(name, data[at]);
                } else if (at == DATE) {
                    json.writeNumberField(name, (int) LocalDate.parse(data[at]).toEpochDay());
                } else {
                    json.writeFieldName(name);
                    json.writeNumber(data[at]);
                }
            }
            if (ENVELOPE) {
                json.writeEndObject();
                write(json, "source", origin.source());
                write(json, "kind", origin.kind());
                if (!unknown.isEmpty()) {
                    json.writeArrayFieldStart("unknown");
                    for (String name : unknown) {
                        json.writeString(name);
                    }
                    json.writeEndArray();
                }
            }
            json.writeEndObject();
        }
        return buffer.toByteArray();
    }

    private static void write(JsonGenerator json, String name, String value) throws IOException {
        if (value != null) {
            json.writeStringField(name, value);
        }
    }
}
