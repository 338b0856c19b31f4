import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/**
 * Raw customers in, clean ones out, with Kafka Streams and Jackson: one thread, at least once.
 *
 * With PEER_FORM=connect the clean value is the customer alone, with Kafka Connect's types: a date is a number of days,
 * an amount a number. Otherwise it has our envelope: key, coordinates of the raw record, source and kind.
 */
public final class Normalize {
    private static final ObjectMapper MAPPER = new ObjectMapper(
            JsonFactory.builder().enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION).build())
        .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
        .enable(DeserializationFeature.USE_BIG_INTEGER_FOR_INTS);
    private static final ObjectReader READER = MAPPER.readerFor(new TypeReference<Map<String, Object>>() {});
    private static final int DATE = Rules.FIELDS.indexOf("date_of_birth");
    private static final boolean ENVELOPE = !"connect".equals(System.getenv("PEER_FORM"));

    public static void main(String[] arguments) {
        Map<String, String> environment = System.getenv();
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, environment.get("PEER_GROUP"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, environment.get("KAFKA_BOOTSTRAP_SERVERS"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, environment.get("PEER_FOLDER"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.ISOLATION_LEVEL_CONFIG), "read_committed");
        // As Kafka's documentation advises for throughput: wait a little, fill large batches, compress.
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 64L * 1024 * 1024);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.ACKS_CONFIG), "all");

        Topology topology = new Topology();
        topology.addSource("raw", environment.get("PEER_RAW"));
        topology.addProcessor("normalize", Normalizer::new, "raw");
        topology.addSink("clean", environment.get("PEER_CLEAN"), (topic, key, value, partitions) ->
            java.util.Optional.of(java.util.Set.of(PARTITION.get())), "normalize");
        topology.addSink("failures", environment.get("PEER_FAILURES"), "normalize");
        KafkaStreams streams = new KafkaStreams(topology, settings);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    /** The partition that the record came from: the clean topic has as many, which spares the hash. */
    private static final ThreadLocal<Integer> PARTITION = new ThreadLocal<>();

    private static final class Normalizer implements Processor<byte[], byte[], byte[], byte[]> {
        private ProcessorContext<byte[], byte[]> context;
        private final ByteArrayBuilder buffer = new ByteArrayBuilder(1024);

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            var place = context.recordMetadata().orElseThrow();
            PARTITION.set(place.partition());
            List<Rules.Invalid> problems = new ArrayList<>(0);
            try {
                Map<String, Object> given = READER.readValue(record.value());
                String[] data = Rules.customer(given, problems);
                if (problems.isEmpty()) {
                    byte[] value = clean(record, data, Rules.unknown(given), place.topic(), place.partition(), place.offset());
                    byte[] key = data[0].getBytes(StandardCharsets.UTF_8);
                    context.forward(new Record<>(key, value, record.timestamp()), "clean");
                    return;
                }
            } catch (IOException wrong) {
                problems.add(new Rules.Invalid("not_json", wrong.getMessage()));
            }
            byte[] failure = (problems.get(0).code + ": " + problems.get(0).getMessage()).getBytes(StandardCharsets.UTF_8);
            context.forward(new Record<>(record.key(), failure, record.timestamp()), "failures");
        }

        private byte[] clean(Record<byte[], byte[]> record, String[] data, List<String> unknown, String topic,
            int partition, long offset) throws IOException {
            buffer.reset();
            try (JsonGenerator json = MAPPER.getFactory().createGenerator(buffer)) {
                json.writeStartObject();
                if (ENVELOPE) {
                    json.writeStringField("key", data[0]);
                    json.writeObjectFieldStart("origin");
                    json.writeStringField("topic", topic);
                    json.writeNumberField("partition", partition);
                    json.writeNumberField("offset", offset);
                    json.writeNumberField("timestamp", record.timestamp());
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
                    write(json, "source", header(record.headers(), "headrace-source"));
                    write(json, "kind", header(record.headers(), "headrace-kind"));
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

        private static String header(Headers headers, String name) {
            Header found = headers.lastHeader(name);
            return found == null ? null : new String(found.value(), StandardCharsets.UTF_8);
        }
    }
}
