import { basename } from 'node:path'
import type { Source } from './facts.ts'

/** Characters that are looked at; a configuration shows its kind long before. */
const maxLook = 262_144

const withoutComments = (text: string): string => text.slice(0, maxLook).replace(/^[ \t]*#.*$/gm, '')

/** Sections of HAProxy. In files of any name, a line that only they have must be there, too. */
export function isHaproxy({ file, text }: Source): boolean {
  const code = withoutComments(text)
  // A part of a configuration that is split into files may have general sections only.
  const isGeneral =
    /^(?:global|defaults)\b[^;{\n]*$/m.test(code) && /^[ \t]+(?:timeout|option|stats|maxconn)[ \t]/m.test(code)
  if (file.endsWith('.cfg') && isGeneral) return true
  if (!/^[ \t]*(?:frontend|backend|listen)[ \t]+\S/m.test(code)) return false
  return (
    file.endsWith('.cfg') ||
    /^[ \t]*(?:default_backend[ \t]+\S+|server[ \t]+\S+[ \t]+[^\s;]+|bind[ \t]+[^\s;]+|mode[ \t]+(?:http|tcp)|use_backend[ \t])[^;{\n]*$/m.test(
      code,
    )
  )
}

const nginxBlock =
  /^[ \t]*(?:http|events|stream|server|upstream[ \t]+[^\s{]+|location[ \t]+[^\n{]{1,512}|(?:map|geo|split_clients)[ \t]+[^\n{]{0,512}\$\w+)\s*\{/m
const nginxDirective =
  /^[ \t]*(?:(?:proxy|fastcgi|uwsgi|grpc|scgi|limit|client|worker|ssl|real_ip|auth)_\w+|add_header|server_name|try_files|access_log|error_log|error_page|server_tokens|(?:open_file_cache|charset|gzip|brotli)\w*|sendfile|tcp_nopush|default_type|set_real_ip_from|keepalive_timeout|least_conn|ip_hash|rewrite)(?:[ \t]+[^;{}]{1,1024})?;|^[ \t]*include[ \t]+[^\s"';]+;|^[ \t]*log_format[ \t]+\w+[ \t\r\n]/m

/** Blocks or directives that only nginx has, or a file in a folder of nginx that shows nothing else. */
export function isNginx({ file, text }: Source): boolean {
  if (/^# configuration file \S+:$/m.test(text) || /^nginx[\w.-]*\.conf(?:\.template)?$/.test(basename(file)))
    return true
  const code = withoutComments(text)
  if (nginxBlock.test(code) || nginxDirective.test(code)) return true
  if (!/(?:^|\/)(?:nginx|conf\.d|sites-(?:available|enabled)|snippets)\//.test(file)) return false
  return /\.conf(?:\.template)?$/.test(file) && code.split('\n').every((line) => /(?:[;{}]|^)[ \t\r]*$/.test(line))
}
