import type { Command } from '../args.ts'
import { drainCommand } from '../drain-command.ts'

const command: Command = drainCommand('drain', 'draining', 'Remove an instance from rotation; it keeps serving')
export default command
