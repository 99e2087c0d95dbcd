import java.util.Map;
import java.util.TreeMap;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

/** Prints how many requests of each kind a Kafka broker has answered, as JSON. Argument: its JMX port on loopback. */
class BrokerCounts {
  public static void main(String[] args) throws Exception {
    String url = "service:jmx:rmi:///jndi/rmi://127.0.0.1:" + args[0] + "/jmxrmi";
    Map<String, Long> counts = new TreeMap<>();
    try (JMXConnector connector = JMXConnectorFactory.connect(new JMXServiceURL(url))) {
      MBeanServerConnection broker = connector.getMBeanServerConnection();
      ObjectName pattern = new ObjectName("kafka.network:type=RequestMetrics,name=RequestsPerSec,*");
      for (ObjectName name : broker.queryNames(pattern, null)) {
        counts.merge(name.getKeyProperty("request"), (Long) broker.getAttribute(name, "Count"), Long::sum);
      }
    }
    StringBuilder json = new StringBuilder();
    counts.forEach((name, count) -> json.append(json.length() == 0 ? "{" : ",").append('"' + name + "\":" + count));
    System.out.println(json.append("}"));
  }
}
