import type { Command } from '../args.ts'
import { drainCommand } from './drain.ts'

const command: Command = drainCommand('undrain', 'serving', 'Return a drained instance to rotation')
export default command
