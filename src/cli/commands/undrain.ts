import type { Command } from '../args.ts'
import { rotation } from '../drain-command.ts'

const command: Command = rotation('undrain', 'serving', 'Take a drained instance back into the rotation')
export default command
