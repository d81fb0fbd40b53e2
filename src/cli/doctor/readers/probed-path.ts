/** The probe path in a health check's command, e.g. of `curl -f http://127.0.0.1:3000/ready`. */
export function probedPath(command: string): string | undefined {
  return /(?<![\w.])\/(?:health\/detailed|healthz?|live|alive|livez|readyz?|ping|status)(?=["'\s?),]|$)/.exec(
    command,
  )?.[0]
}
