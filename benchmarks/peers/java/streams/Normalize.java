import java.nio.charset.StandardCharsets;
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

/** Raw customers in, clean ones out, with Kafka Streams: one thread, at least once. */
public final class Normalize {
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
        private final Customers customers = new Customers();

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            var place = context.recordMetadata().orElseThrow();
            PARTITION.set(place.partition());
            Customers.Outcome outcome = customers.normalize(record.value(), new Customers.Origin(place.topic(),
                place.partition(), place.offset(), record.timestamp(), header(record.headers(), "headrace-source"),
                header(record.headers(), "headrace-kind")));
            if (outcome.failure() == null) {
                context.forward(new Record<>(outcome.key(), outcome.value(), record.timestamp()), "clean");
            } else {
                byte[] failure = outcome.failure().getBytes(StandardCharsets.UTF_8);
                context.forward(new Record<>(record.key(), failure, record.timestamp()), "failures");
            }
        }

        private static String header(Headers headers, String name) {
            Header found = headers.lastHeader(name);
            return found == null ? null : new String(found.value(), StandardCharsets.UTF_8);
        }
    }
}
