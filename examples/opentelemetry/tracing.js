import { FastifyOtelInstrumentation } from '@fastify/otel'
import { ConsoleSpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base'
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node'

const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(new ConsoleSpanExporter())] })
provider.register()
export const instrumentation = new FastifyOtelInstrumentation()
instrumentation.setTracerProvider(provider)
